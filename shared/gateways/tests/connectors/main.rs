//! The gateways against their vendors' published samples, without a network.

#[cfg(test)]
mod billdesk;
#[cfg(test)]
mod payu;
#[cfg(test)]
mod razorpay;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod support;
#[cfg(test)]
mod zaakpay;
