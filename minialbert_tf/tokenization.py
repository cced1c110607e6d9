"""WordPiece tokenization: the one tokenizer of training, evaluation and tagging."""

import hashlib
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tokenizers import Encoding, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

from minialbert_tf.errors import CheckpointError, InputError
from minialbert_tf.files import replacing, write_json

VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNK, CLS, SEP, MASK)
CONTINUATION = "##"
MAX_WORD_LENGTH = 100  # code points; a longer word becomes one [UNK]

_MAX_ALPHABET = 1000
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PIECE = re.compile("[^\n\r\ud800-\udfff]+")  # what can stand on a line of vocab.txt


@dataclass(frozen=True, slots=True)
class Pieces:
    """The WordPieces of one text, without [CLS] and [SEP].

    Attributes:
        ids: Piece ids.
        offsets: (start, end) of each piece in the original text, in code points.
        word_ids: Index of the pre-token (BERT's whitespace and punctuation splitting) that each piece is part of.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int]


@dataclass(frozen=True, slots=True)
class WordPieces:
    """The WordPieces of a sentence that a corpus has split into words.

    A word may be several pre-tokens ("Selegiline-induced" is three), and none if it holds nothing but characters
    that BERT drops, such as control characters.

    Attributes:
        ids: Piece ids.
        words: Index of the corpus word of each piece, never decreasing.
        first_of_word: Whether a piece is the first of its corpus word.
        first_of_token: Whether a piece is the first of its pre-token.
        word_count: Number of corpus words, those without pieces included.
    """

    ids: list[int]
    words: list[int]
    first_of_word: list[bool]
    first_of_token: list[bool]
    word_count: int


class WordPieceTokenizer:
    """BERT's tokenizer: clean, lower-case and strip accents if asked, split at whitespace and punctuation, WordPiece.

    The text is data throughout: a literal "[SEP]" or "[MASK]" in it is ordinary text and never becomes the special
    token. A lone surrogate, which no encoding can express, counts as U+FFFD, which BERT drops.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        lowercase: bool,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ) -> None:
        """Makes a tokenizer.

        Args:
            vocabulary: The pieces by id; continuations start with "##".
            lowercase: Whether the vocabulary is uncased.
            strip_accents: Whether accents are removed; None means as `lowercase`.
            tokenize_chinese_chars: Whether each CJK ideograph is a word of its own.

        Raises:
            InputError: If a special token is missing, or a piece stands twice or cannot stand on a line.
        """
        self.vocabulary = list(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars
        ids = _checked_ids(self.vocabulary)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (ids[token] for token in SPECIAL_TOKENS)
        self._backend = self._build(WordPiece(ids, unk_token=UNK, max_input_chars_per_word=MAX_WORD_LENGTH))

    @classmethod
    def from_pretrained(cls, path: str | Path, lowercase: bool | None = None) -> "WordPieceTokenizer":
        """Reads a tokenizer that transformers or this class has saved.

        What tokenizer_config.json states goes before what tokenizer.json states, as in transformers.

        Args:
            path: A folder with tokenizer.json, or vocab.txt and tokenizer_config.json; or one of the first two files.
            lowercase: Whether the vocabulary is uncased, where the files do not say so; wins over them where they do.

        Raises:
            InputError: If there is no BERT WordPiece tokenizer, or its casing is not stated anywhere.
        """
        path = Path(path)
        folder = path if path.is_dir() else path.parent
        is_json = path.suffix == ".json" or (path.is_dir() and (path / TOKENIZER_FILE).is_file())
        file = path if not path.is_dir() else path / (TOKENIZER_FILE if is_json else VOCABULARY_FILE)
        if not file.is_file():
            raise CheckpointError(
                f"A tokenizer must be a folder or file with {TOKENIZER_FILE} or {VOCABULARY_FILE}. Received: {path}"
            )
        if is_json:
            vocabulary, settings = _parse_definition(_read_json(file), file)
        else:
            vocabulary, settings = read_vocabulary(_read_text(file)), {}
        if path.is_dir() and (folder / TOKENIZER_CONFIG_FILE).is_file():
            settings |= _parse_config(_read_json(folder / TOKENIZER_CONFIG_FILE), folder / TOKENIZER_CONFIG_FILE)
        if lowercase is not None:
            settings["lowercase"] = lowercase
        if "lowercase" not in settings:
            raise InputError(
                f"{VOCABULARY_FILE} does not tell whether it is cased: state lowercase (or do_lower_case in "
                f"{TOKENIZER_CONFIG_FILE}). Received: {path}"
            )
        return cls(vocabulary, **settings)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, lowercase: bool) -> "WordPieceTokenizer":
        """Learns a vocabulary; the same texts give the same vocabulary, with the special tokens at ids 0 to 4.

        Args:
            texts: The texts, all held in memory.
            vocab_size: Number of pieces wanted; little text gives fewer.
            lowercase: Whether the vocabulary is to be uncased.

        Raises:
            InputError: If `vocab_size` cannot hold the special tokens and the characters of the texts.
        """
        texts = [_encodable(text) for text in texts]
        tokenizer = cls(SPECIAL_TOKENS, lowercase)
        seeds = [*SPECIAL_TOKENS, *tokenizer._alphabet(texts)]
        if vocab_size < len(seeds):
            raise InputError(f"vocab_size must be at least {len(seeds)} to hold each character. Received: {vocab_size}")
        # The trainer numbers single characters in the order of a hash table and breaks ties by these numbers.
        # Characters that are given as special tokens are numbered before that, so the result is reproducible.
        trainer = WordPieceTrainer(
            vocab_size=vocab_size, special_tokens=seeds, limit_alphabet=len(seeds), show_progress=False
        )
        tokenizer._backend.train_from_iterator(texts, trainer)
        ids = tokenizer._backend.get_vocab()
        return cls(sorted(ids, key=ids.__getitem__), lowercase)

    def encode(self, text: str) -> Pieces:
        """Splits a text into pieces."""
        return _pieces(self._backend.encode(_encodable(text), add_special_tokens=False))

    def encode_batch(self, texts: Iterable[str]) -> list[Pieces]:
        """Splits texts into pieces, on several cores."""
        encodable = [_encodable(text) for text in texts]
        return [_pieces(encoding) for encoding in self._backend.encode_batch(encodable, add_special_tokens=False)]

    def encode_words(self, words: Sequence[str]) -> WordPieces:
        """Splits the words of a corpus into the very pieces that tagging sees in the words joined by spaces."""
        starts = [0]
        for word in words:
            starts.append(starts[-1] + len(word) + 1)
        pieces = self.encode(" ".join(words))
        owners: list[int] = []
        first_of_word: list[bool] = []
        first_of_token: list[bool] = []
        token = owner = -1
        for (start, _), word_id in zip(pieces.offsets, pieces.word_ids, strict=True):
            previous = owner
            first_of_token.append(word_id != token)
            if word_id != token:
                owner = bisect_right(starts, start) - 1
            first_of_word.append(owner != previous)
            owners.append(owner)
            token = word_id
        return WordPieces(pieces.ids, owners, first_of_word, first_of_token, len(words))

    def same_as(self, other: "WordPieceTokenizer") -> bool:
        """Returns whether both split every text into the same pieces with the same ids."""
        return self._key() == other._key()

    def digest(self) -> str:
        """Returns a short text that is the same for tokenizers that are the same, on any machine."""
        return hashlib.sha256(repr(self._key()).encode()).hexdigest()[:16]

    def _key(self) -> tuple[Any, ...]:
        return self.vocabulary, self.lowercase, self.strip_accents, self.tokenize_chinese_chars

    def save(self, folder: str | Path) -> None:
        """Writes the files from which `from_pretrained` and transformers' AutoTokenizer read the tokenizer.

        Files of the same names are replaced.
        """
        folder = Path(folder)
        with replacing(folder / VOCABULARY_FILE, force=True) as path:
            path.write_text("".join(f"{piece}\n" for piece in self.vocabulary), encoding="utf-8", newline="\n")
        with replacing(folder / TOKENIZER_FILE, force=True) as path:
            path.write_text(self._definition(), encoding="utf-8")
        names = {"pad_token": PAD, "unk_token": UNK, "cls_token": CLS, "sep_token": SEP, "mask_token": MASK}
        with replacing(folder / SPECIAL_TOKENS_FILE, force=True) as path:
            write_json(path, names)
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            **names,
        }
        with replacing(folder / TOKENIZER_CONFIG_FILE, force=True) as path:
            write_json(path, config)

    def _build(self, model: WordPiece) -> Tokenizer:
        backend = Tokenizer(model)
        backend.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.tokenize_chinese_chars,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )
        backend.pre_tokenizer = BertPreTokenizer()
        return backend

    def _definition(self) -> str:
        """Returns tokenizer.json by transformers' conventions, which unlike `encode` know special tokens."""
        backend = self._build(self._backend.model)
        backend.add_special_tokens(list(SPECIAL_TOKENS))
        backend.post_processor = TemplateProcessing(
            single=f"{CLS}:0 $A:0 {SEP}:0",
            pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
            special_tokens=[(CLS, self.cls_id), (SEP, self.sep_id)],
        )
        backend.decoder = WordPieceDecoder(prefix=CONTINUATION)
        return backend.to_str(pretty=True)

    def _alphabet(self, texts: list[str]) -> list[str]:
        """Returns the most frequent characters, and as "##c" those that also stand inside words."""
        words: Counter[str] = Counter()
        for text in texts:
            normalized = self._backend.normalizer.normalize_str(text)
            words.update(word for word, _ in self._backend.pre_tokenizer.pre_tokenize_str(normalized))
        characters: Counter[str] = Counter()
        for word, count in words.items():
            for character in word:
                characters[character] += count
        kept = set(sorted(characters, key=lambda character: (-characters[character], character))[:_MAX_ALPHABET])
        inside = kept & {character for word in words for character in word[1:]}
        return [*sorted(kept), *(CONTINUATION + character for character in sorted(inside))]


def as_tokenizer(tokenizer: Any) -> WordPieceTokenizer:
    """Returns a `WordPieceTokenizer` for one of several descriptions of it.

    Args:
        tokenizer: A `WordPieceTokenizer`, the path of a saved one, a `tokenizers.Tokenizer`, or a fast BERT tokenizer
            of transformers.

    Raises:
        InputError: If it is none of these, or no BERT WordPiece tokenizer.
    """
    if isinstance(tokenizer, WordPieceTokenizer):
        return tokenizer
    if isinstance(tokenizer, str | Path):
        return WordPieceTokenizer.from_pretrained(tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, Tokenizer):
        raise InputError(
            "A tokenizer must be a WordPieceTokenizer, a path, a tokenizers.Tokenizer or a fast tokenizer of "
            f"transformers. Received: {type(tokenizer).__name__}"
        )
    vocabulary, settings = _parse_definition(json.loads(backend.to_str()), type(tokenizer).__name__)
    return WordPieceTokenizer(vocabulary, **settings)


def read_vocabulary(text: str) -> list[str]:
    """Splits the content of a vocab.txt; only line feeds end a line, since other separators occur as pieces."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _pieces(encoding: Encoding) -> Pieces:
    word_ids = cast(list[int], encoding.word_ids)  # None stands only for special tokens, of which there are none
    return Pieces(encoding.ids, encoding.offsets, word_ids)


def _encodable(text: str) -> str:
    return _LONE_SURROGATE.sub("\ufffd", text)


def _checked_ids(vocabulary: list[str]) -> dict[str, int]:
    for number, piece in enumerate(vocabulary):
        if not isinstance(piece, str) or not _PIECE.fullmatch(piece):
            raise InputError(f"Each piece of a vocabulary must be one line of text. Received: {piece!r} at id {number}")
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    if len(ids) < len(vocabulary):
        twice = next(piece for number, piece in enumerate(vocabulary) if ids[piece] != number)
        raise InputError(f"The pieces of a vocabulary must differ. Received twice: {twice!r}")
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise InputError(f"A vocabulary must contain {' '.join(SPECIAL_TOKENS)}. Missing: {' '.join(missing)}")
    return ids


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"A tokenizer's file must be UTF-8. Received: {file} ({error.reason})") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"A tokenizer's JSON file must be valid. Received: {file} ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"A tokenizer's JSON file must hold an object. Received: {file}")
    return value


def _parse_config(config: dict[str, Any], source: Path) -> dict[str, bool]:
    names = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "tokenize_chinese_chars",
    }
    stated = {key: config[key] for key in names if config.get(key) is not None}
    for key, value in stated.items():
        if not isinstance(value, bool):
            raise CheckpointError(f"{key} must be true or false in {source}. Received: {value!r}")
    return {names[key]: value for key, value in stated.items()}


def _parse_definition(definition: dict[str, Any], source: Any) -> tuple[list[str], dict[str, Any]]:
    """Returns the vocabulary and the settings of a tokenizer.json, and refuses what BERT's tokenizer cannot do."""

    def part(name: str) -> dict[str, Any]:
        value = definition.get(name)
        return value if isinstance(value, dict) else {}

    model, normalizer = part("model"), part("normalizer")
    required = {
        "model.type": (model.get("type", "WordPiece"), "WordPiece"),
        "model.unk_token": (model.get("unk_token"), UNK),
        "model.continuing_subword_prefix": (model.get("continuing_subword_prefix"), CONTINUATION),
        "model.max_input_chars_per_word": (model.get("max_input_chars_per_word"), MAX_WORD_LENGTH),
        "normalizer.type": (normalizer.get("type"), "BertNormalizer"),
        "normalizer.clean_text": (normalizer.get("clean_text"), True),
        "pre_tokenizer.type": (part("pre_tokenizer").get("type"), "BertPreTokenizer"),
    }
    for name, (value, expected) in required.items():
        if value != expected:
            raise CheckpointError(
                f"Only BERT's WordPiece tokenizer is supported: {name} must be {expected!r} in {source}. "
                f"Received: {value!r}"
            )
    for token in definition.get("added_tokens") or []:
        if not isinstance(token, dict) or token.get("content") not in SPECIAL_TOKENS:
            raise CheckpointError(f"Only {' '.join(SPECIAL_TOKENS)} may be added tokens in {source}. Received: {token}")
    ids = model.get("vocab")
    if not isinstance(ids, dict) or sorted(map(repr, ids.values())) != sorted(map(repr, range(len(ids)))):
        raise CheckpointError(f"The vocabulary must number its pieces 0, 1, 2, … in {source}.")
    settings = {
        "lowercase": normalizer.get("lowercase"),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars"),
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    if not all(isinstance(value, bool) for value in settings.values()):
        raise CheckpointError(f"The normalizer's settings must be true or false in {source}. Received: {settings}")
    return sorted(ids, key=ids.__getitem__), settings
