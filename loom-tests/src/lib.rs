//! Shared pieces of the model checks. Run them with `cargo loom`.

#[cfg(all(feature = "run", not(proactor_loom)))]
compile_error!(
    "the models need `--cfg proactor_loom`: run `cargo loom`, and unset RUSTFLAGS, which overrides the alias's flag"
);
