//! The vision-language model in two partitions, and the quantizers of the cut layer.
