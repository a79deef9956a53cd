//! Tests of the whole system live in `it/`; this library is empty.
