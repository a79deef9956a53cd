//! The messaging providers against their published samples, without a network.

#[cfg(test)]
mod exotel;
#[cfg(test)]
mod kaleyra;
#[cfg(test)]
mod meta;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod support;
