//! Tenant documents in the parameter store.

use std::sync::Arc;

use aws_sdk_ssm::Client;
use aws_types::SdkConfig;
use chatbill_domain::fault::listed;
use chatbill_domain::ids::TenantId;
use chatbill_domain::ports::{Clock, TenantError, Tenants};
use chatbill_domain::tenant::Tenant;

use crate::cache::{Cache, Known};
use crate::settings::read;

/// Tenants under one path, cached for five minutes. While the parameter store cannot be reached, a document up to an hour old
/// serves on: a shop goes on selling, and only a change of its secrets takes longer.
#[derive(Debug)]
pub struct SsmTenants<C> {
    client: Client,
    path: String,
    local: bool,
    clock: C,
    cache: Cache<Arc<Tenant>>,
}

impl<C: Clock> SsmTenants<C> {
    /// The tenants under `path` (`CHATBILL_TENANTS_PATH`). `local` allows documents to name plain http on this machine.
    #[must_use]
    pub fn new(config: &SdkConfig, path: impl Into<String>, local: bool, clock: C) -> Self {
        let path = path.into();
        Self {
            client: Client::new(config),
            path: path.trim_end_matches('/').to_owned(),
            local,
            clock,
            cache: Cache::new(),
        }
    }

    fn parse(&self, id: &TenantId, text: &str) -> Result<Tenant, String> {
        let tenant = Tenant::read(text, self.local)
            .map_err(|faults| format!("{id}: {}", listed(&faults)))?;
        if tenant.id == *id {
            Ok(tenant)
        } else {
            Err(format!("{id}: the document is of another tenant_id"))
        }
    }
}

impl<C: Clock> Tenants for SsmTenants<C> {
    async fn find(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>, TenantError> {
        let now = self.clock.now();
        let stale = match self.cache.get(id.as_str(), now) {
            Known::Value(tenant) => return Ok(Some(tenant)),
            Known::Absent => return Ok(None),
            Known::Unusable(why) => return Err(TenantError::Invalid(why)),
            Known::Flooded => {
                let why = "too many unknown tenants were asked for";
                return Err(TenantError::Unavailable(why.to_owned()));
            }
            Known::Ask(stale) => stale,
        };
        let name = format!("{}/{id}", self.path);
        match read(&self.client, &name).await {
            Ok(Some(text)) => match self.parse(id, &text) {
                Ok(tenant) => {
                    let tenant = Arc::new(tenant);
                    self.cache.put(id.as_str(), Arc::clone(&tenant), now);
                    Ok(Some(tenant))
                }
                Err(why) => {
                    self.cache.put_absent(id.as_str(), Some(why.clone()), now);
                    Err(TenantError::Invalid(why))
                }
            },
            Ok(None) => {
                self.cache.put_absent(id.as_str(), None, now);
                Ok(None)
            }
            Err(why) => match stale {
                Some(tenant) => {
                    tracing::warn!(
                        tenant.id = %id,
                        error = why,
                        "the tenant's document could not be read again; an older one serves on"
                    );
                    self.cache.pause(id.as_str(), now);
                    Ok(Some(tenant))
                }
                None => Err(TenantError::Unavailable(why)),
            },
        }
    }
}
