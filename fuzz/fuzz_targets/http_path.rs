#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cerbas::fuzzing::http_path(bytes));
