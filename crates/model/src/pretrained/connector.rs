//! The connector of a model directory, and the half that has it.

use burn::tensor::Device;

use super::{Blueprint, PretrainedError, below};
use crate::connector::{Connector, ConnectorSpec};
use crate::partition::ServerPartition;
use crate::parts::CONNECTOR;
use crate::weights::{Keep, KeyMap, initialize, load_keeping, parameters};

impl Blueprint {
    /// What stands at the client for the connector: this one, or where that is the server's, one that passes features on.
    pub(super) fn of_client(
        &self,
        connector: impl FnOnce() -> Result<Connector, PretrainedError>,
        device: &Device,
    ) -> Result<Connector, PretrainedError> {
        if !self.placement.connector_at_server() {
            return connector();
        }
        let width = self.config.connector.input;
        let passes = ConnectorSpec {
            kind: "identity".to_owned(),
            output: width,
            norm: false,
            ..self.config.connector.clone()
        };
        Ok(Connector::new(&passes, device)?)
    }

    /// The server's half, with this connector where that is the server's.
    pub(super) fn in_front(
        &self,
        mut half: ServerPartition,
        connector: impl FnOnce() -> Result<Connector, PretrainedError>,
    ) -> Result<ServerPartition, PretrainedError> {
        if self.placement.connector_at_server() {
            half.uplink.connector = Some(CONNECTOR.holds(connector()?));
        }
        Ok(half)
    }

    /// The connector of the directory.
    pub(super) fn loaded_connector(
        &self,
        device: &Device,
        keep: Keep<'_>,
    ) -> Result<Connector, PretrainedError> {
        let connector = Connector::new(&self.config.connector, device)?;
        if parameters(&connector, "").is_empty() {
            return Ok(connector);
        }
        let (file, keys) = (self.open(CONNECTOR.folder)?, KeyMap::connector());
        let keep = below(&CONNECTOR, keep);
        Ok(load_keeping(connector, &file, &keys, &keep)?)
    }

    /// The connector with the values that training starts with.
    ///
    /// # Errors
    ///
    /// [`PretrainedError::Connector`] if it cannot be built.
    pub fn fresh_connector(&self, device: &Device) -> Result<Connector, PretrainedError> {
        let connector = Connector::new(&self.config.connector, device)?;
        let rule = connector.clone();
        Ok(initialize(
            connector,
            CONNECTOR.prefix,
            self.seed,
            |name, shape| rule.fill(name, shape),
        ))
    }
}
