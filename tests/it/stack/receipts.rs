//! The page a customer keeps.

use std::io::Cursor;

use super::http::{self, Reply};
use super::shop::Shop;

fn assert_guarded(reply: &Reply) {
    let policy = reply.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex, nofollow"),
        ("cache-control", "private, no-store"),
        ("strict-transport-security", "max-age=31536000"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
}

/// What a QR code in a PNG says; the PNG is 8-bit RGB, which every messenger and printer can show.
pub(crate) fn read_code(bytes: &[u8]) -> String {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    let form = (frame.color_type, frame.bit_depth);
    assert_eq!(form, (png::ColorType::Rgb, png::BitDepth::Eight));
    let (width, height) = (frame.width as usize, frame.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        pixels[(y * width + x) * 3]
    });
    let codes = image.detect_grids();
    assert_eq!(codes.len(), 1);
    codes[0].decode().unwrap().1
}

#[test]
fn a_receipt_leads_to_the_payment_and_then_shows_it() {
    let shop = Shop::open();
    let (reference, answer) = shop.sell();
    let url = answer["receipt_url"].as_str().unwrap();
    let link = answer["payment"]["link"].as_str().unwrap();

    let page = http::get(url, &[("accept", "text/html")]);
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_guarded(&page);
    let text = page.text();
    assert!(
        text.contains(&reference) && text.contains("850.00"),
        "{text}"
    );
    assert!(
        !text.contains(&shop.phone[2..]),
        "the page shows no phone number"
    );

    let code = http::get(answer["qr_url"].as_str().unwrap(), &[("accept", "image/*")]);
    assert_eq!(
        (code.status, code.header("content-type")),
        (200, "image/png")
    );
    assert_eq!(read_code(&code.bytes), link);

    let pay = http::get(&format!("{url}/pay"), &[]);
    assert_eq!((pay.status, pay.header("location")), (302, link));
    assert_guarded(&pay);

    shop.pay(&reference);
    shop.until(&reference, "the payment to count", |order| {
        order["payment_status"] == "captured"
    });
    let page = http::get(url, &[]);
    assert!(page.text().contains("Paid"), "{}", page.text());
    assert_guarded(&page);
    // What is paid cannot be paid again from here.
    let pay = http::get(&format!("{url}/pay"), &[]);
    assert_eq!(pay.status, 302);
    assert!(pay.header("location").starts_with("../"), "{pay:?}");
    assert_eq!(http::get(&format!("{url}/qr.png"), &[]).status, 404);
}

#[test]
fn a_link_that_was_not_issued_opens_nothing() {
    let shop = Shop::open();
    let (_, answer) = shop.sell();
    let url = answer["receipt_url"].as_str().unwrap();
    let last = if url.ends_with('A') { 'B' } else { 'A' };
    let changed = format!("{}{last}", &url[..url.len() - 1]);
    let cut = &url[..url.len() - 4];
    for wrong in [changed.as_str(), cut] {
        for part in ["", "/pay", "/qr.png"] {
            let reply = http::get(&format!("{wrong}{part}"), &[]);
            assert_eq!(reply.status, 404, "{part}: {}", reply.text());
            assert!(!reply.text().contains("850"), "{part}");
        }
    }
}
