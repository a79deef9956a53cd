//! Chatbill store.
