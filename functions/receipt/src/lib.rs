//! What the receipt function shows: the page and the QR code. Pure text and pixels; reading the order and answering the
//! request is the handler's business.

pub mod page;
pub mod qr;
