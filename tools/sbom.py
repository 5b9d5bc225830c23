"""Writes the bill of materials of a release: usage: sbom.py OUT.json WHEEL_OR_SDIST...

CycloneDX 1.6. The package contains its own code only (libruvector is part of it, linked
into the extension module); what it asks of other packages comes from the first wheel's
metadata: a name, the range of versions asked for and the extra that asks. Which version
an installation has is not ours to say, so none is given. The package itself is said to be on
the index only where PYPI_NAME is set: else scanners would take it for the index's ruvector.
"""

import hashlib
import os
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement


def metadata_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(name).decode())


def file_component(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Component(
        name=path.name,
        type=ComponentType.FILE,
        bom_ref=path.name,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )


def asked_for(text):
    requirement = Requirement(text)
    told = {"range": requirement.specifier, "marker": requirement.marker}
    optional = "extra" in str(requirement.marker or "")
    return Component(
        name=requirement.name,
        type=ComponentType.LIBRARY,
        bom_ref=text,
        purl=PackageURL("pypi", name=requirement.name.lower()),
        scope=ComponentScope.OPTIONAL if optional else ComponentScope.REQUIRED,
        properties=[
            Property(name=f"python:{name}", value=str(value))
            for name, value in told.items()
            if value
        ],
    )


def bill(paths):
    metadata = metadata_of(next(path for path in paths if path.suffix == ".whl"))
    name, version = metadata["Name"], metadata["Version"]
    bom = Bom()
    package = Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=name,
        purl=PackageURL(
            "pypi" if os.environ.get("PYPI_NAME") else "generic", name=name, version=version
        ),
        licenses=[LicenseFactory().make_from_string(metadata["License-Expression"])],
    )
    bom.metadata.component = package
    asked = [
        asked_for(text)
        for text in metadata.get_all("Requires-Dist", [])
        if Requirement(text).name != name
    ]
    files = [file_component(path) for path in paths]
    bom.components.update(asked, files)
    bom.register_dependency(package, asked)
    return bom


def main(out, *names):
    paths = sorted(map(Path, names))
    version = SchemaVersion.V1_6
    text = make_outputter(bill(paths), OutputFormat.JSON, version).output_as_string(indent=1)
    fault = JsonStrictValidator(version).validate_str(text)
    if fault:
        sys.exit(f"not CycloneDX: {fault}")
    Path(out).write_text(text + "\n")
    print(f"{out}: {len(paths)} files")


if __name__ == "__main__":
    main(*sys.argv[1:])
