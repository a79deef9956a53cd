//! Chatbill runtime.
