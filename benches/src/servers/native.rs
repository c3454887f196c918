//! Peers in C++ and C: compiled when they are first needed, into the directory of the measuring program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// A program of one file.
#[derive(Debug)]
pub(super) struct Source {
    name: &'static str,
    file: &'static str,
    text: &'static str,
    compiler: &'static str,
    /// Debian's package of the compiler.
    compiler_package: &'static str,
    header: &'static str,
    /// Debian's package of the header.
    header_package: &'static str,
    language: &'static str,
    options: &'static [&'static str],
}

pub(super) static ASIO: Source = Source {
    name: "asio",
    file: "asio.cpp",
    text: include_str!("../../peers/asio.cpp"),
    compiler: "c++",
    compiler_package: "g++",
    header: "asio.hpp",
    header_package: "libasio-dev",
    language: "c++",
    options: &["-std=c++17", "-pthread"],
};

pub(super) static LIBUV: Source = Source {
    name: "libuv",
    file: "libuv.c",
    text: include_str!("../../peers/libuv.c"),
    compiler: "cc",
    compiler_package: "gcc",
    header: "uv.h",
    header_package: "libuv1-dev",
    language: "c",
    options: &["-luv"],
};

impl Source {
    /// The program; compiled, unless it was already, from this very source.
    pub(super) fn compiled(&self) -> Result<PathBuf, String> {
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let directory = own.with_file_name("peers");
        let (source, program) = (directory.join(self.file), directory.join(self.name));
        let same = fs::read_to_string(&source).is_ok_and(|text| text == self.text);
        if same && program.exists() {
            return Ok(program);
        }
        self.check_header()?;
        let unwritten = |error| format!("cannot write {}: {error}", source.display());
        fs::create_dir_all(&directory).map_err(unwritten)?;
        // The source is written last: it says that the program is of it.
        let draft = directory.join(format!("draft-{}-{}", std::process::id(), self.file));
        fs::write(&draft, self.text).map_err(unwritten)?;
        let compiled = self.compile(&draft, &program);
        compiled.and_then(|()| fs::rename(&draft, &source).map_err(unwritten))?;
        Ok(program)
    }

    fn compile(&self, source: &Path, program: &Path) -> Result<(), String> {
        let output = Command::new(self.compiler)
            .args(["-O2", "-o"])
            .args([program, source])
            .args(self.options)
            .output()
            .map_err(|error| format!("{} does not start: {error}", self.compiler))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{} does not compile: {}", self.file, said.trim())),
        }
    }

    /// Whether there is a compiler that knows the library.
    fn check_header(&self) -> Result<(), String> {
        let checked = Command::new(self.compiler)
            .args([
                "-include",
                self.header,
                "-E",
                "-x",
                self.language,
                "/dev/null",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match checked {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(format!(
                "{} is missing: install Debian's {}",
                self.header, self.header_package
            )),
            Err(_) => Err(format!(
                "{} is missing: install Debian's {}",
                self.compiler, self.compiler_package
            )),
        }
    }
}
