//! What an SDK error means, in words that never repeat content.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// A short reason for logs: the service's error code or what became of the connection. The service's message is left out,
/// because it can quote what was sent.
pub(crate) fn reason<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(context) => {
            context.err().code().unwrap_or("unnamed error").to_owned()
        }
        SdkError::TimeoutError(_) => "timed out".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "timed out".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_io() => "not reachable".to_owned(),
        SdkError::DispatchFailure(_) => "request could not be sent".to_owned(),
        SdkError::ResponseError(_) => "answer could not be read".to_owned(),
        SdkError::ConstructionFailure(_) => "request could not be built".to_owned(),
        _ => "failed".to_owned(),
    }
}
