//! Tenant documents in the parameter store.

use std::collections::HashSet;
use std::sync::Arc;

use aws_sdk_ssm::Client;
use aws_types::SdkConfig;
use chatbill_domain::fault::{Fault, listed};
use chatbill_domain::ids::TenantId;
use chatbill_domain::ports::{Clock, TenantError, Tenants};
use chatbill_domain::tenant::Tenant;

use crate::cache::{Cache, Known};
use crate::names::{Names, Verdict};
use crate::settings::{names, read};

/// Tenants under one path, cached for five minutes. While the parameter store cannot be reached, a document up to an hour old
/// serves on: a shop goes on selling, and only a change of its secrets takes longer. A document that can no longer be used, because of a
/// slip in an edit, never replaces one that can. A name nobody has costs no call; see `names.rs`.
#[derive(Debug)]
pub struct SsmTenants<C> {
    client: Client,
    path: String,
    local: bool,
    check: Check,
    clock: C,
    cache: Cache<Arc<Tenant>>,
    names: Names,
    guarded: bool,
}

/// What a function needs of a document beyond its form: that its connectors can be opened.
pub type Check = fn(&Tenant) -> Result<(), Vec<Fault>>;

impl<C: Clock> SsmTenants<C> {
    /// The tenants under `path` (`CHATBILL_TENANTS_PATH`). `local` allows documents to name plain http on this machine.
    #[must_use]
    pub fn new(
        config: &SdkConfig,
        path: impl Into<String>,
        local: bool,
        check: Check,
        clock: C,
    ) -> Self {
        let path = path.into();
        Self {
            client: Client::new(config),
            path: path.trim_end_matches('/').to_owned(),
            local,
            check,
            clock,
            cache: Cache::new(),
            names: Names::default(),
            guarded: true,
        }
    }

    /// Without the guard against made-up names: for functions that take names from our own table and queue, where a tenant added a
    /// second ago must be found, and for the local stage, whose tenants come and go within seconds.
    #[must_use]
    pub fn unguarded(self, without: bool) -> Self {
        Self {
            guarded: !without,
            ..self
        }
    }

    fn parse(&self, id: &TenantId, text: &str) -> Result<Tenant, String> {
        let tenant = Tenant::read(text, self.local)
            .and_then(|tenant| (self.check)(&tenant).map(|()| tenant))
            .map_err(|faults| format!("{id}: {}", listed(&faults)))?;
        if tenant.id == *id {
            Ok(tenant)
        } else {
            Err(format!("{id}: the document is of another tenant_id"))
        }
    }

    /// Whether it is worth asking for this tenant, whom this environment has never met.
    async fn may_exist(&self, id: &TenantId) -> Result<bool, TenantError> {
        let mut verdict = self.names.judge(id, self.clock.now());
        if verdict == Verdict::List {
            self.list().await?;
            verdict = self.names.judge(id, self.clock.now());
        }
        match verdict {
            Verdict::Ask => Ok(true),
            Verdict::Unknown => Ok(false),
            Verdict::List | Verdict::Later => Err(unlisted()),
        }
    }

    async fn list(&self) -> Result<(), TenantError> {
        let now = self.clock.now();
        match names(&self.client, &self.path).await {
            Ok((names, complete)) => {
                let names = names.into_iter().filter_map(|n| TenantId::parse(n).ok());
                self.names.listed(names.collect(), complete, now);
                Ok(())
            }
            Err(why) => {
                self.names.not_listed(now);
                Err(TenantError::Unavailable(why))
            }
        }
    }
}

fn unlisted() -> TenantError {
    TenantError::Unavailable("the tenants cannot be listed now".to_owned())
}

impl<C: Clock> Tenants for SsmTenants<C> {
    async fn find(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>, TenantError> {
        let now = self.clock.now();
        let older = match self.cache.get(id.as_str(), now) {
            Known::Value(tenant) => return Ok(Some(tenant)),
            Known::Absent => return Ok(None),
            Known::Unusable(why) => return Err(TenantError::Invalid(why)),
            Known::Ask(older) => older,
        };
        if older.value.is_none() && self.guarded && !self.may_exist(id).await? {
            return Ok(None);
        }
        let name = format!("{}/{id}", self.path);
        match read(&self.client, &name).await {
            Ok(Some(text)) => {
                self.names.found(id);
                match (self.parse(id, &text), older.value) {
                    (Ok(tenant), _) => {
                        let tenant = Arc::new(tenant);
                        self.cache.put(id.as_str(), Arc::clone(&tenant), now);
                        Ok(Some(tenant))
                    }
                    (Err(why), Some(good)) => {
                        tracing::error!(event = "tenant_broken", tenant.id = %id, "the document cannot be used; the last good one serves on: {why}");
                        self.cache.keep(id.as_str(), now);
                        Ok(Some(good))
                    }
                    (Err(why), None) => {
                        tracing::error!(event = "tenant_broken", tenant.id = %id, "the document cannot be used: {why}");
                        self.cache.put_absent(id.as_str(), Some(why.clone()), now);
                        Err(TenantError::Invalid(why))
                    }
                }
            }
            Ok(None) => {
                self.names.missed(id);
                self.cache.put_absent(id.as_str(), None, now);
                Ok(None)
            }
            Err(why) => match older.for_an_outage() {
                Some(tenant) => {
                    tracing::warn!(
                        tenant.id = %id,
                        error = why,
                        "the tenant's document could not be read again; an older one serves on"
                    );
                    self.cache.pause(id.as_str(), now);
                    Ok(Some(tenant))
                }
                None => {
                    self.names.failed(id, now);
                    Err(TenantError::Unavailable(why))
                }
            },
        }
    }

    fn known(&self) -> Vec<TenantId> {
        let names = self.cache.names().into_iter();
        names.filter_map(|n| TenantId::parse(n).ok()).collect()
    }

    async fn all(&self, anew: bool) -> Result<Arc<HashSet<TenantId>>, TenantError> {
        let now = self.clock.now();
        if (anew && self.names.may_list_again(now)) || !self.guarded {
            self.list().await?;
        }
        match self.names.list(self.clock.now()) {
            Ok(names) => Ok(names),
            Err(Verdict::List) => {
                self.list().await?;
                self.names.list(self.clock.now()).map_err(|_| unlisted())
            }
            Err(_) => Err(unlisted()),
        }
    }
}
