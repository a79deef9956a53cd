//! Chatbill testkit.
