//! A payment link or UPI intent as a QR code, in the one PNG form that every reader takes.
//!
//! WhatsApp refuses 1-bit, grey and palette images, so the picture is 8-bit RGB although two colours would do.

use png::{BitDepth, ColorType, Encoder};
use qrcode::{Color, EcLevel, QrCode};

/// ISO/IEC 18004: four modules of white on every side.
pub const QUIET_ZONE: usize = 4;
/// WhatsApp recognises a code reliably from this width on, in pixels.
pub const SMALLEST: usize = 500;

const BLACK: [u8; 3] = [0, 0, 0];
const WHITE: [u8; 3] = [255, 255, 255];

/// The code could not be made.
#[derive(Debug, thiserror::Error)]
pub enum QrError {
    /// More than a QR code holds (2331 bytes at this level of error correction).
    #[error("the text does not fit into a QR code")]
    TooLong(#[source] qrcode::types::QrError),
    /// The picture could not be written.
    #[error("the QR code could not be written as PNG")]
    Png(#[from] png::EncodingError),
}

/// A square PNG of `text`: 8-bit RGB, whole pixels per module, error correction M, at least [`SMALLEST`] pixels wide.
pub fn png(text: &str) -> Result<Vec<u8>, QrError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(QrError::TooLong)?;
    let modules = code.width();
    let across = modules.saturating_add(QUIET_ZONE.saturating_mul(2));
    let scale = SMALLEST.div_ceil(across.max(1));
    let width = across.saturating_mul(scale);
    let margin = QUIET_ZONE.saturating_mul(scale);

    // A line of pixels is drawn once and copied: three quarters of a million bytes one by one take longer than all the rest.
    let quiet = || std::iter::repeat_n(WHITE, margin);
    let blank = WHITE.repeat(width);
    let mut pixels = Vec::with_capacity(blank.len().saturating_mul(width));
    for _ in 0..margin {
        pixels.extend_from_slice(&blank);
    }
    for row in code.to_colors().chunks(modules.max(1)) {
        let modules = row.iter().flat_map(|module| {
            let color = match module {
                Color::Dark => BLACK,
                Color::Light => WHITE,
            };
            std::iter::repeat_n(color, scale)
        });
        let line: Vec<u8> = quiet().chain(modules).chain(quiet()).flatten().collect();
        for _ in 0..scale {
            pixels.extend_from_slice(&line);
        }
    }
    for _ in 0..margin {
        pixels.extend_from_slice(&blank);
    }

    let side = u32::try_from(width).unwrap_or(u32::MAX);
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, side, side);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    // Rows repeat, so the difference to the row above is nearly all zeros.
    encoder.set_filter(png::Filter::Up);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "positions in a picture of a few hundred pixels"
)]
mod tests {
    use super::*;

    struct Picture {
        width: usize,
        rgb: Vec<u8>,
    }

    impl Picture {
        fn of(file: &[u8]) -> Self {
            let decoder = png::Decoder::new(std::io::Cursor::new(file));
            let mut reader = decoder.read_info().unwrap();
            let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut rgb).unwrap();
            assert_eq!(info.color_type, ColorType::Rgb);
            assert_eq!(info.bit_depth, BitDepth::Eight);
            assert_eq!(info.width, info.height);
            let width = usize::try_from(info.width).unwrap();
            Self { width, rgb }
        }

        fn dark(&self, x: usize, y: usize) -> bool {
            let at = (y * self.width + x) * 3;
            match &self.rgb[at..at + 3] {
                [0, 0, 0] => true,
                [255, 255, 255] => false,
                other => panic!("neither black nor white: {other:?}"),
            }
        }

        fn text(&self) -> String {
            let mut image =
                rqrr::PreparedImage::prepare_from_greyscale(self.width, self.width, |x, y| {
                    if self.dark(x, y) { 0 } else { 255 }
                });
            let grids = image.detect_grids();
            assert_eq!(grids.len(), 1);
            let (meta, text) = grids[0].decode().unwrap();
            assert_eq!(meta.ecc_level, 0, "0 is level M on the wire");
            text
        }
    }

    fn samples() -> Vec<String> {
        vec![
            "https://rzp.io/i/AiGGmnh".to_owned(),
            "upi://pay?pa=acme.stores@examplebank&pn=Acme%20Stores&tr=BM345A-12&tn=Bill%20BM345A-12&am=850.00&cu=INR&mc=5411&mode=04&orgid=000000&sign=MEUCIQDq3mQ0".to_owned(),
            format!("https://pay.example.in/{}", "aZ9_".repeat(150)),
        ]
    }

    #[test]
    fn another_reader_reads_what_was_written() {
        for text in samples() {
            assert_eq!(Picture::of(&png(&text).unwrap()).text(), text);
        }
    }

    #[test]
    fn modules_are_whole_pixels_with_four_of_quiet_around_them() {
        for text in samples() {
            let picture = Picture::of(&png(&text).unwrap());
            let modules = QrCode::with_error_correction_level(&text, EcLevel::M)
                .unwrap()
                .width();
            assert!(picture.width >= SMALLEST, "{}", picture.width);
            assert_eq!(picture.width % (modules + 2 * QUIET_ZONE), 0);
            let scale = picture.width / (modules + 2 * QUIET_ZONE);
            let margin = QUIET_ZONE * scale;
            for across in 0..picture.width {
                for depth in 0..margin {
                    let far = picture.width - 1 - depth;
                    assert!(!picture.dark(across, depth) && !picture.dark(across, far));
                    assert!(!picture.dark(depth, across) && !picture.dark(far, across));
                }
            }
            assert!(
                picture.dark(margin, margin),
                "the finder begins right there"
            );
            for y in 0..picture.width {
                for x in 0..picture.width {
                    assert_eq!(
                        picture.dark(x, y),
                        picture.dark(x / scale * scale, y / scale * scale)
                    );
                }
            }
        }
    }

    #[test]
    fn a_file_is_small() {
        for text in samples() {
            let size = png(&text).unwrap().len();
            assert!(size < 20_000, "{size} bytes for {} characters", text.len());
        }
    }

    #[test]
    fn the_same_text_makes_the_same_file() {
        assert_eq!(png("upi://pay").unwrap(), png("upi://pay").unwrap());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(png(&"x".repeat(2331)).is_ok());
        assert!(matches!(png(&"x".repeat(2332)), Err(QrError::TooLong(_))));
    }
}
