//! Codes into bytes: packing, entropy coding and the container they travel in.
