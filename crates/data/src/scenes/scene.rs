//! Which objects stand where: the first draws of a scene's generator.

use std::fmt;

use super::concept::TABLES;
use super::{Concept, SIDE, SplitMix64, Style, Styles};

/// A quarter of the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    /// Rows and columns 0..32.
    TopLeft,
    /// Rows 0..32, columns 32..64.
    TopRight,
    /// Rows 32..64, columns 0..32.
    BottomLeft,
    /// Rows and columns 32..64.
    BottomRight,
}

impl Cell {
    /// All cells, row by row.
    pub const ALL: [Cell; 4] = [
        Cell::TopLeft,
        Cell::TopRight,
        Cell::BottomLeft,
        Cell::BottomRight,
    ];

    /// Place in [`Cell::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The words used in questions, for example `top left`.
    pub fn name(self) -> &'static str {
        ["top left", "top right", "bottom left", "bottom right"][self.index()]
    }

    /// `top` or `bottom`.
    pub(super) fn row(self) -> &'static str {
        ["top", "bottom"][self.index() / 2]
    }

    /// `left` or `right`.
    pub(super) fn column(self) -> &'static str {
        ["left", "right"][self.index() % 2]
    }

    /// The cell `steps` further on, going round.
    pub(super) fn after(self, steps: u32) -> Cell {
        Cell::ALL[(self.index() + steps as usize) % 4]
    }
}

/// Colour of the background, before its small random shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Colour {
    /// Around 250, 200, 212.
    Pink,
    /// Around 188, 216, 248.
    Blue,
    /// Around 198, 236, 196.
    Green,
    /// Around 250, 240, 178.
    Yellow,
    /// Around 216, 196, 244.
    Purple,
    /// Around 212, 212, 212.
    Grey,
}

impl Colour {
    /// All colours in the order the generator draws from.
    pub const ALL: [Colour; 6] = [
        Colour::Pink,
        Colour::Blue,
        Colour::Green,
        Colour::Yellow,
        Colour::Purple,
        Colour::Grey,
    ];

    /// The word used in questions.
    pub fn name(self) -> &'static str {
        ["pink", "blue", "green", "yellow", "purple", "grey"][self as usize]
    }

    /// The RGB value that is shifted by up to 8 per channel in a drawn scene.
    pub fn base(self) -> [u8; 3] {
        match self {
            Colour::Pink => [250, 200, 212],
            Colour::Blue => [188, 216, 248],
            Colour::Green => [198, 236, 196],
            Colour::Yellow => [250, 240, 178],
            Colour::Purple => [216, 196, 244],
            Colour::Grey => [212, 212, 212],
        }
    }

    /// The colour `steps` further on, going round.
    pub(super) fn after(self, steps: u32) -> Colour {
        Colour::ALL[(self as usize + steps as usize) % 6]
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One picture on the canvas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The quarter it belongs to (its edge may reach 2 pixels into a neighbour).
    pub cell: Cell,
    /// What it shows.
    pub concept: &'static Concept,
    /// Who drew it.
    pub style: Style,
    /// Side in pixels, 26 to 32 in a drawn scene.
    pub size: u32,
    /// Mirrored left-right.
    pub flip: bool,
    /// Column of its left edge.
    pub x: u32,
    /// Row of its upper edge.
    pub y: u32,
}

/// A scene: what [`super::render`] turns into pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Name of the background's colour.
    pub colour: Colour,
    /// RGB of the background.
    pub background: [u8; 3],
    /// The objects, by ascending cell; a drawn scene has 1 to 4 with different concepts and cells.
    pub objects: Vec<Object>,
}

impl Scene {
    /// Scene `index` under `seed`, as [`Draw::new`] makes it, without its questions.
    pub fn generate(seed: u64, index: u64, styles: Styles) -> Scene {
        Draw::new(seed, index, styles).scene
    }

    /// The object of a cell, if the cell is occupied.
    pub fn at(&self, cell: Cell) -> Option<&Object> {
        self.objects.iter().find(|o| o.cell == cell)
    }

    /// Whether some object shows `concept`.
    pub fn shows(&self, concept: &Concept) -> bool {
        self.objects
            .iter()
            .any(|o| o.concept.index == concept.index)
    }
}

/// A scene together with the state of its generator, from which its questions are drawn.
#[derive(Clone, Debug)]
pub struct Draw {
    pub(super) scene: Scene,
    pub(super) rng: SplitMix64,
}

impl Draw {
    /// Draws scene `index` under `seed`.
    pub fn new(seed: u64, index: u64, styles: Styles) -> Draw {
        let mut rng = SplitMix64::for_scene(seed, index);
        let scene = draw(&mut rng, styles.list());
        Draw { scene, rng }
    }

    /// The scene.
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The scene, without its generator.
    pub fn into_scene(self) -> Scene {
        self.scene
    }
}

/// The order of the draws is part of the data set's definition: number, colour, cells, concepts, placement.
fn draw(rng: &mut SplitMix64, styles: &[Style]) -> Scene {
    let count = [1, 1, 2, 2, 2, 3, 3, 3, 4, 4][rng.below(10) as usize];
    let colour = rng.pick(&Colour::ALL);
    let background = colour.base().map(|base| shift(base, rng.below(17)));
    let mut cells = Cell::ALL;
    for i in (1..4).rev() {
        cells.swap(i, rng.below(i as u32 + 1) as usize);
    }
    let mut cells = cells[..count].to_vec();
    cells.sort();
    let mut shown: Vec<&'static Concept> = Vec::with_capacity(count);
    while shown.len() < count {
        let next = concept(rng, shown.first().copied());
        if !shown.iter().any(|c| c.index == next.index) {
            shown.push(next);
        }
    }
    let objects = cells
        .into_iter()
        .zip(shown)
        .map(|(cell, concept)| place(rng, cell, concept, styles))
        .collect();
    Scene {
        colour,
        background,
        objects,
    }
}

fn shift(base: u8, draw: u32) -> u8 {
    (i64::from(base) + i64::from(draw) - 8).clamp(0, 255) as u8
}

/// Later objects share the first one's category half of the time, so that "adversarial" absentees are plausible.
fn concept(rng: &mut SplitMix64, first: Option<&Concept>) -> &'static Concept {
    match first {
        Some(first) if rng.below(2) == 0 => rng.pick(&TABLES.category[first.index]),
        _ => rng.pick(&TABLES.weighted),
    }
}

fn place(rng: &mut SplitMix64, cell: Cell, concept: &'static Concept, styles: &[Style]) -> Object {
    let style = rng.pick(styles);
    let size = 26 + rng.below(7);
    let flip = rng.below(2) == 1;
    let mut edge = |quarter: usize| {
        let offset = i64::from(rng.below(32 - size + 5)) - 2;
        (32 * quarter as i64 + offset).clamp(0, SIDE as i64 - i64::from(size)) as u32
    };
    let x = edge(cell.index() % 2);
    let y = edge(cell.index() / 2);
    Object {
        cell,
        concept,
        style,
        size,
        flip,
        x,
        y,
    }
}
