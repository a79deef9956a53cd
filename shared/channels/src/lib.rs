//! Chatbill channels.
