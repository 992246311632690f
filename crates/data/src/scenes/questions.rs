//! A scene into questions and answers: a training conversation, or the test questions.

use super::concept::{TABLES, concepts};
use super::{Cell, Concept, Draw, Object, Scene, SplitMix64};

/// The form of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// POPE: is something in the image? The absentee of a training conversation is chosen in any of the three ways.
    Pope,
    /// POPE, the absentee is any concept.
    PopeRandom,
    /// POPE, the absentee is a popular concept.
    PopePopular,
    /// POPE, the absentee shares the category of something present.
    PopeAdversarial,
    /// What is in a cell? In test questions only of an occupied cell.
    What,
    /// What is in a cell that is empty (test questions only).
    WhatEmpty,
    /// How many objects are there?
    Count,
    /// What colour is the background?
    Colour,
    /// Which quarter is something in (practice only)?
    Where,
    /// MME existence.
    MmeExistence,
    /// MME position.
    MmePosition,
    /// MME count.
    MmeCount,
    /// MME color.
    MmeColor,
    /// The caption.
    Caption,
    /// Which of two objects is in a half?
    Relation,
}

impl Kind {
    /// The name used in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pope => "pope",
            Kind::PopeRandom => "pope_random",
            Kind::PopePopular => "pope_popular",
            Kind::PopeAdversarial => "pope_adversarial",
            Kind::What => "what",
            Kind::WhatEmpty => "what_empty",
            Kind::Count => "count",
            Kind::Colour => "colour",
            Kind::Where => "where",
            Kind::MmeExistence => "mme_existence",
            Kind::MmePosition => "mme_position",
            Kind::MmeCount => "mme_count",
            Kind::MmeColor => "mme_color",
            Kind::Caption => "caption",
            Kind::Relation => "relation",
        }
    }
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The form.
    pub kind: Kind,
    /// The question, without any image tag.
    pub question: String,
    /// The answer, without any end token.
    pub answer: String,
}

/// Sets the generator of relations apart from that of the other questions.
const RELATIONS: u64 = 0x7265_6C61_7469_6F6E;
const NUMBERS: [&str; 4] = ["one", "two", "three", "four"];
const MME: [Kind; 4] = [
    Kind::MmeExistence,
    Kind::MmePosition,
    Kind::MmeCount,
    Kind::MmeColor,
];

impl Scene {
    /// `a dog, a cat and an owl.`: the objects in order.
    pub fn caption(&self) -> String {
        let names: Vec<_> = self
            .objects
            .iter()
            .map(|o| o.concept.with_article())
            .collect();
        match names.split_last() {
            Some((last, [])) => format!("{last}."),
            Some((last, before)) => format!("{} and {last}.", before.join(", ")),
            None => "nothing.".to_owned(),
        }
    }
}

impl Draw {
    /// The training conversation: 9 turns in shuffled order, about 100 words. The same at every call.
    pub fn train_turns(&self) -> Vec<Turn> {
        let mut ask = Asking::new(self);
        ask.pope(Kind::Pope, None);
        ask.what_here_and_elsewhere();
        ask.count_and_colour();
        let kind = ask.rng.pick(&MME);
        ask.mme_pair(kind);
        ask.caption();
        ask.shuffle();
        ask.turns
    }

    /// What a model that is yet to see practises: the training conversation's forms with all four MME pairs, and the
    /// quarter of every object. The order is not shuffled.
    pub fn practice_turns(&self) -> Vec<Turn> {
        let mut ask = Asking::new(self);
        ask.pope(Kind::Pope, None);
        ask.what_here_and_elsewhere();
        ask.count_and_colour();
        for object in &self.scene.objects {
            ask.place(object);
        }
        for kind in MME {
            ask.mme_pair(kind);
        }
        ask.caption();
        ask.turns
    }

    /// The 21 test questions: POPE in three modes, four cells, count, colour, four MME pairs, caption.
    pub fn test_turns(&self) -> Vec<Turn> {
        let mut ask = Asking::new(self);
        for (mode, kind) in [Kind::PopeRandom, Kind::PopePopular, Kind::PopeAdversarial]
            .into_iter()
            .enumerate()
        {
            ask.pope(kind, Some(mode as u32));
        }
        for cell in Cell::ALL {
            let kind = if self.scene.at(cell).is_some() {
                Kind::What
            } else {
                Kind::WhatEmpty
            };
            ask.what(kind, cell);
        }
        ask.count_and_colour();
        for kind in MME {
            ask.mme_pair(kind);
        }
        ask.caption();
        ask.turns
    }

    /// Which of two objects is in a half, for every two and both directions, where just one of them is: `What is in the
    /// left, the dog or the cat?` In shuffled order; none where one object stands alone.
    ///
    /// They have a generator of their own, so the other questions are the same with them and without.
    pub fn relation_turns(&self) -> Vec<Turn> {
        let mut ask = Asking::new(self);
        ask.rng = SplitMix64::new(ask.rng.next_u64() ^ RELATIONS);
        for (place, first) in self.scene.objects.iter().enumerate() {
            for second in &self.scene.objects[place + 1..] {
                ask.relation(first, second, Cell::column);
                ask.relation(first, second, Cell::row);
            }
        }
        ask.shuffle();
        ask.turns
    }
}

/// The turns asked so far and the generator that decides the next.
struct Asking<'a> {
    scene: &'a Scene,
    rng: SplitMix64,
    turns: Vec<Turn>,
}

impl<'a> Asking<'a> {
    fn new(draw: &'a Draw) -> Self {
        Self {
            scene: &draw.scene,
            rng: draw.rng.clone(),
            turns: Vec::with_capacity(21),
        }
    }

    fn push(&mut self, kind: Kind, question: String, answer: &str) {
        self.turns.push(Turn {
            kind,
            question,
            answer: answer.to_owned(),
        });
    }

    fn shuffle(&mut self) {
        for i in (1..self.turns.len()).rev() {
            let j = self.rng.below(i as u32 + 1) as usize;
            self.turns.swap(i, j);
        }
    }

    fn object(&mut self) -> &'a Object {
        &self.scene.objects[self.rng.below(self.scene.objects.len() as u32) as usize]
    }

    /// A concept that the scene does not show: any (mode 0), a popular one (1), one of a category present (2).
    fn absent(&mut self, mode: u32) -> &'static Concept {
        loop {
            let concept = match mode {
                0 => &concepts()[self.rng.below(concepts().len() as u32) as usize],
                1 => self.rng.pick(&TABLES.popular),
                _ => {
                    let present = self.object().concept;
                    self.rng.pick(&TABLES.category[present.index])
                }
            };
            if !self.scene.shows(concept) {
                return concept;
            }
        }
    }

    /// One question about something present, one about something absent; without a mode, the mode is drawn.
    fn pope(&mut self, kind: Kind, mode: Option<u32>) {
        let present = self.object().concept;
        let mode = mode.unwrap_or_else(|| self.rng.below(3));
        let absent = self.absent(mode);
        self.push(kind, exists(present), "yes");
        self.push(kind, exists(absent), "no");
    }

    fn what(&mut self, kind: Kind, cell: Cell) {
        let answer = self.scene.at(cell).map_or("nothing", |o| o.concept.name);
        self.push(kind, format!("What is in the {cell}?"), answer);
    }

    /// What is in an object's cell, and in another.
    fn what_here_and_elsewhere(&mut self) {
        let here = self.object().cell;
        self.what(Kind::What, here);
        let other = here.after(1 + self.rng.below(3));
        self.what(Kind::What, other);
    }

    fn place(&mut self, object: &Object) {
        let question = format!("What is the {} in?", object.concept.name);
        self.push(Kind::Where, question, object.cell.name());
    }

    fn count_and_colour(&mut self) {
        let number = NUMBERS[self.scene.objects.len() - 1];
        self.push(
            Kind::Count,
            "How many objects are there?".to_owned(),
            number,
        );
        self.push(
            Kind::Colour,
            "What colour is the background?".to_owned(),
            self.scene.colour.name(),
        );
    }

    fn caption(&mut self) {
        let caption = self.scene.caption();
        self.push(Kind::Caption, "Describe the image.".to_owned(), &caption);
    }

    /// The half that is asked about is either's, and either is named first.
    fn relation(&mut self, one: &Object, other: &Object, half: fn(Cell) -> &'static str) {
        if half(one.cell) == half(other.cell) {
            return;
        }
        let [answer, wrong] = self.either(one, other);
        let [first, second] = self.either(answer, wrong);
        let (half, [first, second]) = (half(answer.cell), [first, second].map(|o| o.concept.name));
        self.push(
            Kind::Relation,
            format!("What is in the {half}, the {first} or the {second}?"),
            answer.concept.name,
        );
    }

    fn either<'o>(&mut self, one: &'o Object, other: &'o Object) -> [&'o Object; 2] {
        if self.rng.below(2) == 0 {
            [one, other]
        } else {
            [other, one]
        }
    }

    /// A statement that holds and one that does not. The object is drawn even where it is not asked about.
    fn mme_pair(&mut self, kind: Kind) {
        let object = self.object();
        let (holds, fails) = match kind {
            Kind::MmePosition => {
                let question =
                    |cell: Cell| format!("Is the {} in the {cell}?", object.concept.name);
                (
                    question(object.cell),
                    question(object.cell.after(1 + self.rng.below(3))),
                )
            }
            Kind::MmeCount => {
                let place = self.scene.objects.len() - 1;
                (
                    how_many(place),
                    how_many((place + 1 + self.rng.below(3) as usize) % 4),
                )
            }
            Kind::MmeColor => {
                let colour = self.scene.colour;
                let question = |colour| format!("Is the background {colour}?");
                (
                    question(colour),
                    question(colour.after(1 + self.rng.below(5))),
                )
            }
            _ => {
                let mode = self.rng.below(3);
                (exists(object.concept), exists(self.absent(mode)))
            }
        };
        self.push(kind, format!("{holds} Please answer yes or no."), "yes");
        self.push(kind, format!("{fails} Please answer yes or no."), "no");
    }
}

fn exists(concept: &Concept) -> String {
    format!("Is there {} in the image?", concept.with_article())
}

/// `place` 0 asks for one object, 3 for four.
fn how_many(place: usize) -> String {
    match place {
        0 => "Is there one object in the image?".to_owned(),
        _ => format!("Are there {} objects in the image?", NUMBERS[place]),
    }
}
