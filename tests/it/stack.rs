//! System tests on a deployed stack: through the API as a POS, at the sandbox as a customer, in AWS as an operator.
//!
//! `CHATBILL_STACK` names the file that describes the stack (`cargo xtask up` writes it). Every test opens a shop of its own,
//! onboarded as in production, so all of them share the stack and run side by side.

mod aws;
mod changing;
mod creating;
mod delivering;
mod gateways;
mod hostile;
mod http;
mod listening;
mod paying;
mod providers;
mod receipts;
mod reconciling;
mod refusing;
mod reporting;
mod shop;
mod tenants;
mod turning;
mod ways;
mod webhooks;
mod written;
