//! Incidents that nothing follows any more, because what opened them was paused, changed or removed: they are resolved if
//! their policy resolves them, and say on their timeline why in any case.

use super::PLUGIN;
use super::domain::{Association, IncidentPolicy};
use crate::access::Call;
use crate::access::actor::Actor;
use crate::database::{Did, Writer};
use crate::error::Result;
use crate::plugin::Kernel;
use crate::plugin::catalog::domain::SystemId;
use crate::plugin::incident::domain::IncidentId;

impl Writer {
    /// Lets go of the incidents of these associations, each by its policy as it is given here, and answers what there is to
    /// tell when all rows are written. Nobody else judges their runs until the end of the transaction.
    pub(super) async fn release_incidents(
        &mut self,
        kernel: &Kernel,
        call: &Call,
        released: &[Association],
        why: &str,
    ) -> Result<Vec<Did>> {
        let numbers: Vec<_> = released.iter().map(|association| association.number).collect();
        self.lock_judging(&numbers).await?;
        let mut states = self.states(&numbers).await?;
        states.retain(|_, state| state.incident_id.is_some());
        // The server opened them, and it is the server that resolves them: whoever pauses a check needs no leave for that.
        let call = Call::by_server(PLUGIN, "follows health checks with incidents", call.now);
        let mut done = vec![];
        for association in released {
            if let Some(id) = states.get_mut(&association.number).and_then(|state| state.incident_id.take()) {
                done.extend(self.release_incident(kernel, &call, id, association, why).await?);
            }
        }
        self.save_states(&states).await?;
        Ok(done)
    }

    /// The same for all checks of a system that is about to be deleted.
    pub(in crate::plugin) async fn release_incidents_of_system(
        &mut self,
        kernel: &Kernel,
        call: &Call,
        system: SystemId,
    ) -> Result<Vec<Did>> {
        let released = self.associations(0, Some(system), None, i64::MAX).await?;
        self.release_incidents(kernel, call, &released, "has lost its system, which was deleted").await
    }

    async fn release_incident(
        &mut self,
        kernel: &Kernel,
        call: &Call,
        id: IncidentId,
        association: &Association,
        why: &str,
    ) -> Result<Option<Did>> {
        let policy = IncidentPolicy::stored(association.incident_policy.as_deref());
        let text = format!("{} {why}: this incident is not followed any more", association.check_name);
        let actor = Actor::of(&call.caller);
        let kind = if policy.is_some_and(|policy| policy.auto_resolve) {
            self.resolve_incident_of_check(kernel, id, text, &actor, call.now).await?
        } else {
            let is_added = self.add_to_incident_of_check(kernel, id, text, &actor, call.now).await?;
            is_added.then_some("incident.update_added")
        };
        Ok(kind.map(|kind| Did { plugin: "incident", ..call.did(kind, id) }))
    }
}
