//! Chatbill gateways.
