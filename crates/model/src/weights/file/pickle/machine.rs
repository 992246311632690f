//! The operations.

use std::collections::HashMap;

use safetensors::Dtype;

use super::super::torch::dtype_of_storage;
use super::{Built, Callable, Id, PickleError, TensorRef, Value};

/// Runs a pickle to its end.
pub(in super::super) fn run(bytes: &[u8]) -> Result<Built, PickleError> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    Ok(Built {
        values: machine.values,
        root,
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            let start = self.at;
            let [op] = self.take()?;
            match op {
                b'.' => return self.pop(),
                b'\x80' => drop(self.take::<1>()?), // PROTO
                b'\x95' => drop(self.take::<8>()?), // FRAME
                b'N' | b'\x88' | b'\x89' => self.push(Value::Other), // NONE, NEWTRUE, NEWFALSE
                b'G' => {
                    self.take::<8>()?;
                    self.push(Value::Other); // BINFLOAT
                }
                b'K' => {
                    let [n] = self.take()?;
                    self.push(Value::Int(i64::from(n)));
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.take()?);
                    self.push(Value::Int(i64::from(n)));
                }
                b'J' => {
                    let n = i32::from_le_bytes(self.take()?);
                    self.push(Value::Int(i64::from(n)));
                }
                b'\x8a' => self.long1()?,
                b'X' => {
                    let length = u32::from_le_bytes(self.take()?);
                    self.text(u64::from(length))?;
                }
                b'\x8c' => {
                    let [length] = self.take()?;
                    self.text(u64::from(length))?;
                }
                b'\x8d' => {
                    let length = u64::from_le_bytes(self.take()?);
                    self.text(length)?;
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                b')' | b']' => self.push(Value::Sequence(Vec::new())),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b't' | b'l' => {
                    let items = self.since_mark()?;
                    self.push(Value::Sequence(items));
                }
                b'\x85'..=b'\x87' => {
                    let count = usize::from(op - b'\x84');
                    let items = self.pop_many(count)?;
                    self.push(Value::Sequence(items));
                }
                b'a' | b'e' => {
                    let items = if op == b'a' {
                        self.pop_many(1)?
                    } else {
                        self.since_mark()?
                    };
                    match self.top()? {
                        Value::Sequence(list) => list.extend(items),
                        _ => return Err(PickleError::Malformed(start)),
                    }
                }
                b's' | b'u' => {
                    let items = if op == b's' {
                        self.pop_many(2)?
                    } else {
                        self.since_mark()?
                    };
                    match self.top()? {
                        Value::Dict(dict) if items.len() % 2 == 0 => dict.extend(items),
                        _ => return Err(PickleError::Malformed(start)),
                    }
                }
                b'q' => {
                    let [key] = self.take()?;
                    self.remember(u64::from(key))?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.take()?);
                    self.remember(u64::from(key))?;
                }
                b'\x94' => self.remember(self.memo.len() as u64)?,
                b'h' => {
                    let [key] = self.take()?;
                    self.recall(u64::from(key), start)?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.take()?);
                    self.recall(u64::from(key), start)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                b'\x93' => {
                    let names = self.pop_many(2)?;
                    match (&self.values[names[0]], &self.values[names[1]]) {
                        (Value::Text(module), Value::Text(name)) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.global(&module, &name)?;
                        }
                        _ => return Err(PickleError::Malformed(start)),
                    }
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id).ok_or(PickleError::Malformed(start))?;
                    self.push(storage);
                }
                b'R' => {
                    let arguments = self.pop()?;
                    let callable = self.pop()?;
                    let value = self
                        .reduce(callable, arguments)
                        .ok_or(PickleError::Malformed(start))?;
                    self.push(value);
                }
                b'b' => {
                    // BUILD: attributes of a dictionary (`_metadata` of a state_dict) do not matter.
                    self.pop()?;
                    if !matches!(self.top()?, Value::Dict(_)) {
                        return Err(PickleError::Malformed(start));
                    }
                }
                other => return Err(PickleError::Operation(other, start)),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.first_chunk().ok_or(PickleError::Truncated)?;
        self.at += N;
        Ok(*taken)
    }

    fn slice(&mut self, length: u64) -> Result<&[u8], PickleError> {
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length))
            .ok_or(PickleError::Truncated)?;
        let slice = self.bytes.get(self.at..end).ok_or(PickleError::Truncated)?;
        self.at = end;
        Ok(slice)
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|b| *b == b'\n');
        let length = length.ok_or(PickleError::Truncated)?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn text(&mut self, length: u64) -> Result<(), PickleError> {
        let text = String::from_utf8_lossy(self.slice(length)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    /// LONG1: little-endian, two's complement, up to 8 bytes here.
    fn long1(&mut self) -> Result<(), PickleError> {
        let start = self.at;
        let [length] = self.take()?;
        let bytes = self.slice(u64::from(length))?;
        if bytes.len() > 8 {
            return Err(PickleError::Malformed(start));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut all = [if negative { 0xff } else { 0 }; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(all)));
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    /// Lowest stack position that may be taken: nothing below a mark is an operand.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        if self.stack.len() < self.floor() + count {
            return Err(PickleError::Malformed(self.at));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or(PickleError::Malformed(self.at))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Value, PickleError> {
        let id = self.stack.last().ok_or(PickleError::Malformed(self.at))?;
        Ok(&mut self.values[*id])
    }

    fn remember(&mut self, key: u64) -> Result<(), PickleError> {
        let id = *self.stack.last().ok_or(PickleError::Malformed(self.at))?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u64, start: usize) -> Result<(), PickleError> {
        let id = *self.memo.get(&key).ok_or(PickleError::Malformed(start))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let value = match (module, name) {
            ("collections", "OrderedDict") => Value::Callable(Callable::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Value::Callable(Callable::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Value::Callable(Callable::RebuildParameter),
            ("torch" | "torch.storage", class) if dtype_of_storage(class).is_some() => {
                Value::StorageClass(dtype_of_storage(class).unwrap_or(Dtype::F32))
            }
            _ => return Err(PickleError::Global(format!("{module}.{name}"))),
        };
        self.push(value);
        Ok(())
    }

    /// BINPERSID: `("storage", class, key, device, count)`.
    fn storage(&self, id: Id) -> Option<Value> {
        let Value::Sequence(items) = &self.values[id] else {
            return None;
        };
        let [kind, class, key, ..] = items.as_slice() else {
            return None;
        };
        match [
            &self.values[*kind],
            &self.values[*class],
            &self.values[*key],
        ] {
            [
                Value::Text(kind),
                Value::StorageClass(dtype),
                Value::Text(key),
            ] if kind == "storage" => Some(Value::Storage(*dtype, key.clone())),
            _ => None,
        }
    }

    fn reduce(&self, callable: Id, arguments: Id) -> Option<Value> {
        let Value::Callable(callable) = self.values[callable] else {
            return None;
        };
        let Value::Sequence(arguments) = &self.values[arguments] else {
            return None;
        };
        match (callable, arguments.as_slice()) {
            (Callable::OrderedDict, []) => Some(Value::Dict(Vec::new())),
            // (storage, offset, size, stride, requires_grad, backward_hooks)
            (Callable::RebuildTensor, [storage, offset, size, stride, ..]) => {
                let Value::Storage(dtype, key) = &self.values[*storage] else {
                    return None;
                };
                let (shape, strides) = (self.sizes(*size)?, self.sizes(*stride)?);
                (shape.len() == strides.len()).then_some(())?;
                Some(Value::Tensor(TensorRef {
                    dtype: *dtype,
                    key: key.clone(),
                    offset: self.size(*offset)? as u64,
                    shape,
                    strides,
                }))
            }
            // (data, requires_grad, backward_hooks)
            (Callable::RebuildParameter, [data, ..]) => match &self.values[*data] {
                Value::Tensor(tensor) => Some(Value::Tensor(tensor.clone())),
                _ => None,
            },
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match &self.values[id] {
            Value::Sequence(items) => items.iter().map(|item| self.size(*item)).collect(),
            _ => None,
        }
    }

    fn size(&self, id: Id) -> Option<usize> {
        match &self.values[id] {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}
