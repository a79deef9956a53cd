//! What customers write, and the code to pay above a bill.

use serde_json::{Value, json};

use super::http;
use super::receipts::read_code;
use super::shop::{count, message, phone};
use super::ways::{Outlet, WHATSAPP, Way, each};

#[test]
fn a_customer_who_wrote_gets_the_interactive_message_and_others_the_template() {
    let outlet = Way::Meta.open(|plan| plan.document["channel"]["form"] = json!("auto"));
    let bill = outlet.sell_and_deliver();
    assert_eq!(
        message(&outlet.order(&bill), "invoice.1")["form"],
        "template"
    );
    outlet.says("Do you have rice?");
    let bill = outlet.sell_and_deliver();
    assert_eq!(
        message(&outlet.order(&bill), "invoice.1")["form"],
        "interactive"
    );
    let calls = outlet.asked();
    let operations: Vec<&str> = calls
        .iter()
        .map(|call| call["operation"].as_str().unwrap())
        .collect();
    assert_eq!(
        operations,
        [
            "send_message.template_order_details",
            "send_message.order_details"
        ]
    );
}

#[test]
fn who_wrote_stop_gets_nothing_more_and_others_do() {
    each(&WHATSAPP, |way| {
        let outlet = way.open_to_customers(|_| ());
        outlet.says(" Please stop! 🙏 ");
        let other = phone();
        outlet.hears(&other, "Please do not stop");
        let (reference, order) = outlet.sell_until("the bill to be skipped", |order| {
            order["delivery"]["status"] == "skipped"
        });
        let why = "the customer asked not to be written to";
        let skipped = |entry: &Value| entry["reason"] == why;
        assert_eq!(count(&order, "skipped", skipped), 1, "{order:#}");
        // Shown at the till, the bill can be paid; not even that is told.
        outlet.pay(&reference);
        let order = outlet.until(&reference, "the confirmation to be skipped", |order| {
            message(order, "paid")["status"] == "skipped"
        });
        assert_eq!(count(&order, "skipped", skipped), 2, "{order:#}");
        assert_eq!((outlet.asked().len(), outlet.messages().len()), (0, 0));
        let mut bill = outlet.bill();
        bill["customer"]["phone"] = json!(format!("+{other}"));
        outlet.post(&bill).json(201);
        let reference = bill["reference_id"].as_str().unwrap();
        outlet.until(reference, "the other customer's bill", |order| {
            order["delivery"]["status"] == "delivered"
        });
    });
}

/// The picture in the header of the only message on the phone.
fn picture(outlet: &Outlet) -> Value {
    fn find(value: &Value) -> Option<&Value> {
        match value {
            Value::Object(fields) => fields
                .get("image")
                .filter(|image| image.is_object())
                .or_else(|| fields.values().find_map(find)),
            Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    let messages = outlet.messages();
    assert_eq!(messages.len(), 1);
    find(&messages[0])
        .unwrap_or_else(|| panic!("no picture: {messages:#?}"))
        .clone()
}

#[test]
fn the_code_to_pay_stands_above_the_bill_by_its_address() {
    each(&[Way::Meta, Way::ExotelWhatsApp], |way| {
        let outlet = way.open_to_customers(|plan| {
            let channel = &mut plan.document["channel"];
            channel["qr_header"] = json!("link");
            if way == Way::Meta {
                channel["templates"]["invoice"]["media_header"] = json!(true);
                plan.accounts["meta"]["templates"][0]["header"] = json!("image");
            }
        });
        let reference = outlet.sell_and_deliver();
        let image = picture(&outlet);
        // The provider fetches it.
        let code = http::get(image["link"].as_str().unwrap(), &[("accept", "image/*")]);
        assert_eq!(
            (code.status, code.header("content-type")),
            (200, "image/png")
        );
        assert_eq!(
            read_code(&code.bytes),
            outlet.order(&reference)["payment"]["link"]
        );
    });
}

#[test]
fn the_code_to_pay_is_uploaded_before_the_bill() {
    let outlet = Way::Meta.open(|plan| {
        plan.document["channel"]["qr_header"] = json!("upload");
        plan.document["channel"]["templates"]["invoice"]["media_header"] = json!(true);
        plan.accounts["meta"]["templates"][0]["header"] = json!("image");
    });
    outlet.sell_and_deliver();
    let path = format!("/meta/20{}/media", outlet.phone);
    let calls = outlet.seen("received?vendor=meta&operation=upload_media");
    let calls = calls["received"].as_array().unwrap();
    let uploads: Vec<&Value> = calls.iter().filter(|call| call["path"] == *path).collect();
    assert_eq!(uploads.len(), 1, "{calls:#?}");
    assert_eq!(picture(&outlet)["id"], uploads[0]["answer"]["id"]);
}
