//! A block of few bytes as it travels inside a message: what would take longer to ask for than to say.

use serde::{Deserialize, Serialize};

use super::{Block, BufferMut, Item, OutOfMemory};
use crate::shape::Shape;

/// Bytes that a small block has at most, all fields together: a packet takes them beside what it carries anyway.
pub const SMALL_BYTES_MAX: usize = 1024;

/// Fields that it has at most.
const FIELDS_MAX: usize = 64;

/// A block's fields, bytes and all. What is read off a wire is sound, or is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct SmallBlock {
    fields: Vec<(Item, Shape)>,
    /// Of all fields, one after the other.
    bytes: Vec<u8>,
}

impl SmallBlock {
    /// A block as it travels, if it is small and all of it is here: nobody waits for a device.
    pub fn of(fields: &[Block]) -> Option<SmallBlock> {
        let bytes: usize = fields.iter().map(|field| field.buffer.len()).sum();
        let is_here = || fields.iter().all(|field| field.buffer.is_here());
        if bytes > SMALL_BYTES_MAX || fields.len() > FIELDS_MAX || !is_here() {
            return None;
        }
        let mut small = SmallBlock { fields: Vec::with_capacity(fields.len()), bytes: Vec::with_capacity(bytes) };
        for field in fields {
            small.fields.push((field.item, field.shape.clone()));
            small.bytes.extend_from_slice(field.bytes());
        }
        Some(small)
    }

    /// One of its fields, if it has it.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn field(&self, index: usize) -> Option<Result<Block, OutOfMemory>> {
        let (item, shape) = self.fields.get(index)?;
        let bytes_of = |(item, shape): &(Item, Shape)| (shape.elements() * item.bytes()) as usize;
        let start: usize = self.fields[..index].iter().map(bytes_of).sum();
        let bytes = &self.bytes[start..start + bytes_of(&self.fields[index])];
        Some(BufferMut::try_new(bytes.len()).map(|mut buffer| {
            buffer.bytes_mut().copy_from_slice(bytes);
            Block::new(*item, shape.clone(), buffer.freeze())
        }))
    }
}

/// As it is read: whatever somebody sent.
#[derive(Deserialize)]
struct Unchecked {
    fields: Vec<(Item, Shape)>,
    bytes: Vec<u8>,
}

/// What came is no small block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fields} fields and {bytes} bytes are no small block")]
struct NotSmall {
    fields: usize,
    bytes: usize,
}

impl TryFrom<Unchecked> for SmallBlock {
    type Error = NotSmall;

    fn try_from(Unchecked { fields, bytes }: Unchecked) -> Result<SmallBlock, NotSmall> {
        let bytes_of = |(item, shape): &(Item, Shape)| Shape::new(shape).ok()?.elements().checked_mul(item.bytes());
        let total = fields.iter().try_fold(0u64, |total, field| total.checked_add(bytes_of(field)?));
        match total == Some(bytes.len() as u64) && bytes.len() <= SMALL_BYTES_MAX && fields.len() <= FIELDS_MAX {
            true => Ok(SmallBlock { fields, bytes }),
            false => Err(NotSmall { fields: fields.len(), bytes: bytes.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    fn shape(lengths: &[u64]) -> Shape {
        Shape::new(lengths).unwrap()
    }

    #[test]
    fn fields_come_back_as_they_were() {
        let fields = [
            Block::from_elements(shape(&[3]), &[1.5f64, 2.0, -0.0]),
            Block::from_elements::<u32>(shape(&[0, 7]), &[]),
            Block::from_elements(shape(&[]), &[7i64]),
        ];
        let small = SmallBlock::of(&fields).unwrap();
        let read: SmallBlock = postcard::from_bytes(&postcard::to_stdvec(&small).unwrap()).unwrap();
        assert_eq!(read, small);
        for (index, field) in fields.iter().enumerate() {
            let back = small.field(index).unwrap().unwrap();
            assert_eq!((back.item, &back.shape, back.bytes()), (field.item, &field.shape, field.bytes()));
        }
        assert!(small.field(3).is_none());
    }

    #[test]
    fn what_is_large_is_not_sent_and_what_is_not_sound_is_not_read() {
        let largest = SMALL_BYTES_MAX as u64 / 8;
        let block = |elements: u64| Block::from_elements(shape(&[elements]), &vec![0u64; elements as usize]);
        assert!(SmallBlock::of(&[block(largest)]).is_some());
        assert!(SmallBlock::of(&[block(largest + 1)]).is_none());
        assert!(SmallBlock::of(&[block(largest), block(1)]).is_none(), "all of it or nothing");
        let item = Item::Value(DType::U64);
        let field = |lengths: &[u64]| (item, lengths.iter().copied().collect::<Shape>());
        for (fields, bytes) in [
            (vec![field(&[largest + 1])], SMALL_BYTES_MAX + 8),
            (vec![field(&[2])], 8),
            (vec![field(&[1])], 16),
            (vec![field(&[u64::MAX, 2])], 8),
            (vec![field(&[1 << 59]), field(&[1 << 59]), field(&[1 << 59]), field(&[1 << 59])], 0),
            (vec![field(&[0]); FIELDS_MAX + 1], 0),
        ] {
            let sent = postcard::to_stdvec(&(&fields, vec![0u8; bytes])).unwrap();
            assert!(postcard::from_bytes::<SmallBlock>(&sent).is_err(), "{fields:?} of {bytes} bytes");
        }
    }
}
