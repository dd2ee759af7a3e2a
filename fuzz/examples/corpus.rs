//! `corpus unpack FOLDER` writes the committed corpora as folders of files, as libFuzzer wants them;
//! `corpus pack FOLDER` writes such folders back.

use std::fs;
use std::path::Path;

use portcullis_fuzz::{TARGETS, corpora};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, folder] = &arguments[..] else { return Err(std::io::Error::other("corpus unpack|pack FOLDER")) };
    for (target, _) in TARGETS {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(format!("{target}.txt"));
        let folder = Path::new(folder).join(target);
        if command == "unpack" {
            fs::create_dir_all(&folder)?;
            for (n, input) in corpora::unpack(&fs::read_to_string(packed)?).iter().enumerate() {
                fs::write(folder.join(format!("kept-{n:04}")), input)?;
            }
        } else if folder.is_dir() {
            let inputs = fs::read_dir(folder)?.map(|entry| fs::read(entry?.path())).collect::<Result<_, _>>()?;
            fs::write(packed, corpora::pack(inputs))?;
        }
    }
    Ok(())
}
