//! Loading the configuration again, at SIGHUP or `POST /reload`: one way for both.
//!
//! Decides: nothing; a good file takes effect for every worker, a faulty one changes nothing. Never
//! touches: what is in the file (`config`), tiers, or requests under way.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Workers;
use crate::config;
use crate::proxy::Instance;

/// Puts the configuration file in force again.
#[derive(Debug)]
pub struct Reload {
    /// The file; `None` for a process that was not started from one.
    file: Option<PathBuf>,
    instance: Arc<Instance>,
    workers: Arc<Workers>,
    /// One at a time: of two that overlap, the later file must not lose to the earlier.
    order: Mutex<()>,
}

impl Reload {
    /// For a process that serves `instance` by `workers`.
    #[must_use]
    pub fn new(file: Option<PathBuf>, instance: Arc<Instance>, workers: Arc<Workers>) -> Self {
        Self { file, instance, workers, order: Mutex::new(()) }
    }

    /// Loads the file, and says in the log what came of it. Reads from disk: not for an event loop.
    /// Answers the tables whose changes take effect at the next start only.
    ///
    /// # Errors
    /// Every problem of the file, one each; the configuration in force stays.
    pub fn run(&self) -> Result<Vec<&'static str>, Vec<String>> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &self.file else {
            return Err(vec!["forebay was not started from a file: there is nothing to load".to_owned()]);
        };
        let loaded = config::load(file, &config::process_env)
            .map_err(|problems| problems.lines().collect::<Vec<_>>())
            .and_then(|rules| {
                let warnings = rules.warnings.clone();
                let needs_restart = self.instance.reload(rules).map_err(|error| vec![error.to_string()])?;
                Ok((warnings, needs_restart))
            });
        match loaded {
            Ok((warnings, needs_restart)) => {
                for worker in self.workers.all() {
                    let renewed = self.instance.renewed(&worker.load());
                    worker.store(renewed);
                }
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                if !needs_restart.is_empty() {
                    tracing::warn!("changes of {} take effect at the next start", needs_restart.join(", "));
                }
                tracing::info!("configuration loaded");
                Ok(needs_restart)
            }
            Err(problems) => {
                self.instance.shared.metrics.reloaded(false);
                tracing::error!("the configuration in force stays:\n{}", problems.join("\n"));
                Err(problems)
            }
        }
    }
}
