"""Finding, fetching and running the tools of the checks; what is fetched is pinned and kept in android_demo/build."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "android_demo"
CACHE = DEMO / "build" / "checks"

KOTLIN_INTEGRITY = "nY7ifXZsAfCTJFagHmDQuJRJSr1W/WBUrJnLTfq78/g8u+LMM97pAqspg3ANDFLBH8+de1XdRtofpaLEr3kZiQ=="  # SHA-512
KOTLIN_LIBRARIES = (
    "kotlin-compiler.jar",
    "kotlin-stdlib.jar",
    "kotlin-reflect.jar",
    "kotlin-script-runtime.jar",
    "kotlin-daemon-client.jar",
    "kotlinx-coroutines-core-jvm.jar",
    "annotations-13.0.jar",
)

# Declarations of Android 6's classes. The package is in Debian 11, not in 12; of other systems only apt is needed.
STUBS_PACKAGE, STUBS_VERSION = "libandroid-23-java", "6.0.1+r72-6"
STUBS_SHA256 = "8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3"
STUBS_SOURCE = "deb [signed-by={keyring}] http://deb.debian.org/debian bullseye main\n"
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

JARS = Path("/usr/share/java")
KEY_LENGTH = 16


class SkipError(Exception):
    """A check cannot be run here; the message names what it needs."""


class FailureError(Exception):
    """A check has found something wrong."""


def catalogue() -> dict[str, str]:
    """Returns the versions in gradle/libs.versions.toml."""
    return tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))["versions"]


def program(name: str, package: str) -> str:
    """Returns the path of an installed program."""
    path = shutil.which(name)
    if path is None:
        raise SkipError(f"needs {name}: apt-get install {package}")
    return path


def file(path: str | Path, package: str) -> Path:
    """Returns the path of an installed file."""
    if not Path(path).is_file():
        raise SkipError(f"needs {path}: apt-get install {package}")
    return Path(path)


def run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Runs a program and returns its standard output.

    Raises:
        FailureError: If it fails; with the end of what it wrote.
    """
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise FailureError("\n".join([f"{Path(command[0]).name} ended with status {done.returncode}", *lines[-40:]]))
    return done.stdout


def kotlin_libraries() -> Path:
    """Returns the folder of the Kotlin compiler's libraries, fetched from npm in the catalogue's version."""
    version = catalogue()["kotlin"]
    folder = CACHE / f"kotlin-{version}"
    if not folder.is_dir():
        npm = program("npm", "npm")
        archive = CACHE / f"kotlin-compiler-{version}.tgz"
        archive.parent.mkdir(parents=True, exist_ok=True)
        fetch([npm, "pack", "--silent", f"kotlin-compiler@{version}"], cwd=archive.parent)
        check_digest(archive, base64.b64decode(KOTLIN_INTEGRITY), "sha512")
        new = folder.with_suffix(".new")
        new.mkdir(exist_ok=True)
        with tarfile.open(archive) as content:
            for name in KOTLIN_LIBRARIES:
                member = content.extractfile(f"package/lib/{name}")
                assert member is not None
                (new / name).write_bytes(member.read())
        new.rename(folder)
        archive.unlink()
    return folder


def android_stubs() -> Path:
    """Returns the jar with declarations of Android's classes, fetched from Debian without installing it."""
    jar = CACHE / f"android-23-{STUBS_VERSION}.jar"
    if not jar.is_file():
        apt, dpkg = program("apt-get", "apt"), program("dpkg-deb", "dpkg")
        file(DEBIAN_KEYRING, "debian-archive-keyring")
        state = CACHE / "apt"
        for folder in ("lists/partial", "cache/archives/partial"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "sources.list").write_text(STUBS_SOURCE.format(keyring=DEBIAN_KEYRING), encoding="ascii")
        settings = {
            "Dir::Etc::SourceList": state / "sources.list",
            "Dir::Etc::SourceParts": os.devnull,
            "Dir::State::Lists": state / "lists",
            "Dir::Cache": state / "cache",
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        fetch([apt, "-qq", *options, "update"])
        fetch([apt, "-qq", *options, "download", f"{STUBS_PACKAGE}={STUBS_VERSION}"], cwd=state)
        (package,) = state.glob(f"{STUBS_PACKAGE}_*.deb")
        check_digest(package, bytes.fromhex(STUBS_SHA256), "sha256")
        run([dpkg, "-x", package, state / "root"])
        shutil.move(state / "root/usr/share/java/com.android.android-23.jar", jar)
        shutil.rmtree(state)
    return jar


def fetch(command: Sequence[str | Path], cwd: Path | None = None) -> None:
    """Runs a program that downloads, which no check can do without a network."""
    try:
        run(command, cwd)
    except FailureError as error:
        raise SkipError(f"needs the network: {' '.join(str(error).split())[-300:]}") from error


def check_digest(path: Path, expected: bytes, algorithm: str) -> None:
    """Deletes and refuses a download that is not the pinned one."""
    if hashlib.new(algorithm, path.read_bytes()).digest() != expected:
        path.unlink()
        raise FailureError(f"{path.name} must have the {algorithm} in checks/tools.py; it was deleted.")


def compile_kotlin(
    name: str,
    sources: Iterable[Path],
    classpath: Sequence[Path] = (),
    friends: Sequence[Path] = (),
    use_jdk: bool = True,
) -> Path:
    """Compiles Kotlin to a jar, with warnings as errors, unless the same has been compiled before.

    Args:
        name: The module's name.
        sources: .kt files, and .java files to read.
        classpath: Jars beside Kotlin's own library.
        friends: Jars among them whose internal declarations are visible, as a module's are to its tests.
        use_jdk: Whether the JDK's classes are visible, or only those in the classpath.
    """
    java = program("java", "default-jre-headless")
    libraries = kotlin_libraries()
    sources = sorted(sources)
    classpath = [*classpath, *friends]
    options = ["-Werror", "-jvm-target", "1.8", "-no-stdlib", "-no-reflect", "-module-name", name]
    options += [] if use_jdk else ["-no-jdk"]
    options += [f"-Xfriend-paths={path}" for path in friends]
    key = hashlib.sha256(repr([options, libraries.name]).encode())
    for path in [*sources, *classpath]:
        key.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    jar = CACHE / f"{name}-{key.hexdigest()[:KEY_LENGTH]}.jar"
    if not jar.is_file():
        for old in CACHE.glob(f"{name}-{'?' * KEY_LENGTH}.jar"):
            old.unlink()
        new = jar.with_suffix(".new.jar")
        compiler = os.pathsep.join(str(libraries / library) for library in KOTLIN_LIBRARIES)
        joined = os.pathsep.join(map(str, [*classpath, libraries / "kotlin-stdlib.jar"]))
        command: list[str | Path] = [java, "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", compiler]
        command += ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-cp", joined, "-d", new, *options, *sources]
        run(command)
        new.rename(jar)
    return jar


def java_program(main: str, classpath: Sequence[Path], properties: Mapping[str, Path] | None = None) -> list[str]:
    """Returns the command that runs a class, to which its arguments are to be added."""
    jars = os.pathsep.join(map(str, [*classpath, kotlin_libraries() / "kotlin-stdlib.jar"]))
    settings = [f"-D{name}={value}" for name, value in (properties or {}).items()]
    return [program("java", "default-jre-headless"), "-ea", *settings, "-cp", jars, main]


def core_jar() -> Path:
    """Compiles core against Android's classes alone, so that it can use nothing that old phones lack."""
    return compile_kotlin("core", (DEMO / "core/src/main").rglob("*.kt"), [android_stubs()], use_jdk=False)
