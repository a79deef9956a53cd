//! Chatbill domain.
