//! Desired state compiled to the engine's snapshot.
