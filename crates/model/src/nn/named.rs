//! A module that goes by another name than its field.

use std::ops::{Deref, DerefMut};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

/// What [`Named`] announces itself as while a module tree is walked.
pub(crate) const NAMED: &str = "Named";

/// A module whose place in the paths of parameters is called `name`, whatever the field that holds it is called: so one
/// block serves families whose files spell the same part in different ways, and the path of a parameter stays its
/// Hugging Face name. An empty name takes the level out of the path.
#[derive(Clone, Debug)]
pub struct Named<M> {
    name: &'static str,
    module: M,
}

impl<M> Named<M> {
    /// `module` under `name`, which may hold dots.
    pub fn new(name: &'static str, module: M) -> Self {
        Self { name, module }
    }

    /// A module that leaves no trace in the path: its own fields stand where it stands.
    pub fn flat(module: M) -> Self {
        Self::new("", module)
    }

    /// The module alone.
    pub fn into_inner(self) -> M {
        self.module
    }

    /// The same name on what `change` makes of the module.
    #[must_use]
    pub fn with(self, change: impl FnOnce(M) -> M) -> Self {
        Self::new(self.name, change(self.module))
    }
}

impl<M> Deref for Named<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.module
    }
}

impl<M> DerefMut for Named<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.module
    }
}

impl<M: Module> Module for Named<M> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.module.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|module| module.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|module| module.to_device(device))
    }

    fn train(self) -> Self {
        self.with(Module::train)
    }

    fn valid(&self) -> Self {
        Self::new(self.name, self.module.valid())
    }

    fn materialize(self) -> Self {
        self.with(Module::materialize)
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        visitor.enter_module(self.name, NAMED);
        self.module.visit(visitor);
        visitor.exit_module(self.name, NAMED);
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        let name = self.name;
        mapper.enter_module(name, NAMED);
        let named = self.with(|module| module.map(mapper));
        mapper.exit_module(name, NAMED);
        named
    }
}

impl<M: ModuleDisplay> ModuleDisplayDefault for Named<M> {
    fn content(&self, content: Content) -> Option<Content> {
        self.module.content(content)
    }
}

impl<M: ModuleDisplay> ModuleDisplay for Named<M> {}
