"""Checks of the app and the project that need neither Gradle nor Google's Maven repository."""

import re
import shutil
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

from android_demo.checks.tools import (
    CACHE,
    DEMO,
    FailureError,
    android_stubs,
    catalogue,
    compile_kotlin,
    core_jar,
    file,
    program,
    run,
)

ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"
FRAMEWORK = "/usr/share/android-framework-res/framework-res.apk"
APP = DEMO / "app" / "src" / "main"
# What LiteRT's own manifest asks for, for the check of what is left after merging.
LIBRARY_PERMISSIONS = ("FOREGROUND_SERVICE", "FOREGROUND_SERVICE_DATA_SYNC")


def check_app() -> str:
    """Links resources and manifest, and compiles the app against Android's and LiteRT's declarations."""
    aapt2 = program("aapt2", "aapt")
    framework = file(FRAMEWORK, "android-framework-res")
    folder = CACHE / "app"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest = folder / "AndroidManifest.xml"
    merged = merged_manifest(APP / "AndroidManifest.xml", namespace())
    manifest.write_bytes(ET.tostring(merged, encoding="utf-8"))
    run([aapt2, "compile", "--dir", APP / "res", "-o", folder / "resources.zip"])
    link: list[str | Path] = [aapt2, "link", "-I", framework, "--manifest", manifest, "-o", folder / "app.apk"]
    link += [
        "--java",
        folder / "java",
        "--min-sdk-version",
        "26",
        "--target-sdk-version",
        "35",
        folder / "resources.zip",
    ]
    run(link)
    permissions = [line for line in run([aapt2, "dump", "permissions", folder / "app.apk"]).splitlines() if ":" in line]
    if permissions != [f"package: {namespace()}"]:
        raise FailureError(f"The app must ask for no permission. Received: {permissions}")
    sources = [*(APP / "kotlin").rglob("*.kt"), *(DEMO / "checks/stubs").glob("*.kt"), *folder.rglob("R.java")]
    compile_kotlin("app", sources, [core_jar(), android_stubs()], use_jdk=False)
    return "resources link, no permission is left, sources compile without warnings"


def check_project() -> str:
    """Reads all XML and TOML, and compares versions and strings that must agree."""
    files = sorted(path for path in DEMO.rglob("*.xml") if "build" not in path.relative_to(DEMO).parts)
    roots = {path: ET.parse(path).getroot() for path in files}
    versions = catalogue()
    if versions["litert"] != version("ai-edge-litert"):
        raise FailureError(f"The app and Python must run the same LiteRT. Received: {versions['litert']}")
    check_strings(roots)
    return f"{len(files)} XML files and the catalogue are well-formed, versions agree, every string is used"


def check_strings(roots: dict[Path, ET.Element]) -> None:
    """Sees that screens take their texts from the resources, and that each of these is used."""
    used = set()
    for path in APP.rglob("*.*"):
        if path.suffix in (".xml", ".kt"):
            used |= set(re.findall(r"(?:R\.(?:string|plurals)\.|@string/)(\w+)", path.read_text(encoding="utf-8")))
    defined = {element.get("name") for element in roots[APP / "res/values/strings.xml"]}
    if defined != used:
        raise FailureError(f"Strings must be those used. Differing: {sorted(map(str, defined ^ used))}")
    for path, root in roots.items():
        for element in root.iter():
            for name in ("text", "hint", "label", "contentDescription"):
                value = element.get(ANDROID + name)
                if value is not None and not value.startswith("@string/"):
                    raise FailureError(f"Texts must be resources in {path.name}. Received: {value!r}")


def namespace() -> str:
    """Returns the app's package, which build.gradle.kts states."""
    found = re.search(r'namespace = "([\w.]+)"', (DEMO / "app/build.gradle.kts").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def merged_manifest(path: Path, package: str) -> ET.Element:
    """Returns the manifest as the Android Gradle plugin would merge it with LiteRT's, as far as permissions go."""
    ET.register_namespace("android", ANDROID.strip("{}"))
    root = ET.parse(path).getroot()
    removed = [each for each in root.iter("uses-permission") if each.get(TOOLS + "node") == "removeAll"]
    for element in removed:
        root.remove(element)
    if not removed:
        for name in LIBRARY_PERMISSIONS:
            ET.SubElement(root, "uses-permission", {ANDROID + "name": f"android.permission.{name}"})
    root.set("package", package)  # aapt2 refuses a manifest without
    return root
