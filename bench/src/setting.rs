//! The command line.

use std::path::PathBuf;

use crate::Outcome;

/// A build of millrace to measure.
#[derive(Clone)]
pub struct Build {
    pub name: &'static str,
    pub path: PathBuf,
}

pub struct Setting {
    /// The build to measure, then the one to compare it with, if there is one.
    pub builds: Vec<Build>,
    /// The first build with the cargo feature `failpoints`.
    pub failpoints: PathBuf,
    /// A folder on the disk to measure.
    pub folder: PathBuf,
    parts: Vec<String>,
}

impl Setting {
    pub fn read(arguments: Vec<String>) -> Outcome<Self> {
        let mut setting = Self {
            builds: Vec::new(),
            failpoints: PathBuf::new(),
            folder: PathBuf::new(),
            parts: Vec::new(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with("--") {
                setting.parts.push(argument);
                continue;
            }
            let path = PathBuf::from(arguments.next().ok_or(format!("{argument} needs a path"))?);
            match argument.as_str() {
                "--millrace" => {
                    setting.builds.insert(0, Build { name: "millrace", path: path.canonicalize()? });
                }
                "--beside" => setting.builds.push(Build { name: "beside", path: path.canonicalize()? }),
                "--failpoints" => setting.failpoints = path.canonicalize()?,
                "--folder" => setting.folder = path.canonicalize()?,
                _ => return Err(format!("unknown option `{argument}`; use bench/run").into()),
            }
        }
        if setting.builds.is_empty() || setting.folder.as_os_str().is_empty() {
            return Err("`--millrace` or `--folder` is missing; use bench/run".into());
        }
        Ok(setting)
    }

    /// Fails if the command line names a part that does not exist.
    pub fn expect_parts(&self, known: &[&str]) -> Outcome<()> {
        match self.parts.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("unknown part `{name}`; the parts are {}", known.join(", ")).into()),
            None => Ok(()),
        }
    }

    pub fn wants(&self, part: &str) -> bool {
        self.whole() || self.parts.iter().any(|name| name == part)
    }

    pub fn whole(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn build(&self) -> &Build {
        &self.builds[0]
    }
}
