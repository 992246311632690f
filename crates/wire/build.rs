//! Compiles `proto/split.proto` without protoc, in two passes: the messages (for prost), then the
//! service over undecoded frames, so that every message is bounded and counted before it is decoded.

use std::path::PathBuf;
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/split.proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(["split.proto"], ["proto"])?;

    let messages = out.join("messages");
    fs::create_dir_all(&messages)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .out_dir(&messages)
        .compile_fds(descriptors.clone())?;

    let service = out.join("service");
    fs::create_dir_all(&service)?;
    tonic_prost_build::configure()
        .out_dir(&service)
        .codec_path("crate::grpc::codec::FrameCodec")
        .extern_path(".qtl.split.v1", "crate::grpc::codec::frames")
        .compile_fds(descriptors)?;
    Ok(())
}
