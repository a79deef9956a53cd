//! What the receipt function shows: the page. Pure text; reading the order and answering the request is the handler's business.

pub mod page;
