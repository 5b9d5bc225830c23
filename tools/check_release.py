"""Checks the files of a release: usage: check_release.py VERSION NAME FILE...

All wheels and source packages are of this version and of one name. NAME is what the owner of
the project on the package index has set; empty means that nothing is uploaded, and then the
files may have any name. Another project's name in the metadata would be uploaded to that.
"""

import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path


def metadata_of(path):
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
            text = archive.read(name)
    else:
        with tarfile.open(path) as archive:
            (name,) = [n for n in archive.getnames() if n.count("/") == 1 and "PKG-INFO" in n]
            text = archive.extractfile(name).read()
    return HeaderParser().parsestr(text.decode())


def faults(version, wanted, paths):
    about = {path.name: metadata_of(path) for path in paths}
    if not any(path.suffix == ".gz" for path in paths):
        yield "no source package"
    for file, told in about.items():
        if told["Version"] != version:
            yield f"{file}: version {told['Version']}, the tag says {version}"
        if wanted and told["Name"] != wanted:
            yield f"{file}: the name is {told['Name']}, the index's is to be {wanted}"
    names = {told["Name"] for told in about.values()}
    if len(names) != 1:
        yield f"names differ: {', '.join(sorted(names))}"


def main(version, wanted, *files):
    found = list(faults(version, wanted, [Path(file) for file in files]))
    for fault in found:
        print(fault)
    if not found:
        print(f"{len(files)} files of {version}, for {wanted or 'no index'}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
