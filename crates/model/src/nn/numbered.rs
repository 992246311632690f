//! A run of modules that are numbered from any place on.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

/// Modules whose places in the paths of parameters are called `first`, `first + 1` and so on: a share of a longer list,
/// under the names that the whole list gives it.
#[derive(Clone, Debug)]
pub struct Numbered<M> {
    first: usize,
    modules: Vec<M>,
}

impl<M> Numbered<M> {
    /// `modules`, the first of which is number `first`.
    pub fn new(first: usize, modules: Vec<M>) -> Self {
        Self { first, modules }
    }

    /// Number of the first.
    pub fn first(&self) -> usize {
        self.first
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// The one at place `i` of these, with its number.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn at(&self, i: usize) -> (usize, &M) {
        (self.first + i, &self.modules[i])
    }

    /// Each with its number.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &M)> {
        let first = self.first;
        let numbered = self.modules.iter().enumerate();
        numbered.map(move |(i, module)| (first + i, module))
    }

    fn with(self, mut change: impl FnMut(M) -> M) -> Self {
        let modules = self.modules.into_iter().map(&mut change).collect();
        Self::new(self.first, modules)
    }
}

/// What burn calls the list that this is a share of, so that a walk treats it alike.
const LIST: &str = "Vec";

impl<M: Module> Module for Numbered<M> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        let modules = self.modules.iter();
        modules.fold(devices, |devices, module| module.collect_devices(devices))
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
        let modules = self.modules.iter().map(Module::valid);
        Self::new(self.first, modules.collect())
    }

    fn materialize(self) -> Self {
        self.with(Module::materialize)
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        for (number, module) in self.iter() {
            let number = number.to_string();
            visitor.enter_module(&number, LIST);
            module.visit(visitor);
            visitor.exit_module(&number, LIST);
        }
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        let mut number = self.first;
        self.with(|module| {
            let name = number.to_string();
            number += 1;
            mapper.enter_module(&name, LIST);
            let module = module.map(mapper);
            mapper.exit_module(&name, LIST);
            module
        })
    }
}

impl<M: ModuleDisplay> ModuleDisplayDefault for Numbered<M> {
    fn content(&self, content: Content) -> Option<Content> {
        let modules = self.iter();
        let shown = modules.fold(content, |content, (number, module)| {
            content.add(&number.to_string(), module)
        });
        Some(shown)
    }
}

impl<M: ModuleDisplay> ModuleDisplay for Numbered<M> {}
