"""Teachers that are in memory, and asked about texts as these are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fusion import _check
from fusion.models import longest, vocabulary_size
from fusion.teachers.capture import origin_of, teacher_rows
from fusion.teachers.store import TeacherRows
from fusion.text.conversations import Encoded, Example, encode
from fusion.text.fitting import fit


@final
class LiveTeacher:
    """A teacher that is asked about texts which no store can hold beforehand.

    What it says of a text is what a store of its would hold, bit for bit, up to what
    batches of other lengths change.

    Parameters
    ----------
    model : PreTrainedModel
        The teacher, on the device and in the dtype it shall compute in.
    tokenizer : PreTrainedTokenizerBase
        Its fast tokenizer.
    k : int
        Logits a token.

    Attributes
    ----------
    manifest : fusion.teachers.store.Origin
        What its rows have in common.

    Raises
    ------
    ValueError
        If k is not a number of its tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        k: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._columns = int(model.config.get_text_config().vocab_size)
        # Columns with which a head is padded are of no token.
        vocabulary = min(vocabulary_size(tokenizer), self._columns)
        _check.count(k, "k", vocabulary)
        self.manifest = origin_of(
            model,
            tokenizer,
            examples=(),
            vocabulary=vocabulary,
            k=k,
            shard_size=1,
            max_length=longest(model),
        )

    def check(self, asked: Sequence[Example], name: str) -> None:
        """Require examples that the teacher can be asked about.

        Parameters
        ----------
        asked : sequence of Example
            The examples.
        name : str
            What they are called in the error.

        Raises
        ------
        ValueError
            If its chat template does not render one, or a prompt is longer than its
            context.
        """
        fit(
            asked,
            self._tokenizer,
            longest(self._model),
            columns=self._columns,
            name=name,
            progress=False,
        )

    def rows(self, examples: Sequence[Example]) -> dict[str, TeacherRows]:
        """Ask the teacher about a batch.

        Parameters
        ----------
        examples : sequence of Example
            The batch; it is asked in one forward pass.

        Returns
        -------
        dict of str to TeacherRows
            By the examples' keys, of those that its chat template renders as they are
            and whose prompts fit its context.
        """
        encoded: dict[str, Encoded] = {}
        for example in examples:
            # What a student writes may be anything, also what a template changes.
            try:
                code = encode(example, self._tokenizer, self.manifest.max_length)
            except ValueError:
                continue
            if code.input_ids.max() < self._columns:
                encoded[example.key] = code
        if not encoded:
            return {}
        found = teacher_rows(
            self._model,
            list(encoded.values()),
            self.manifest.k,
            self.manifest.vocabulary,
        )
        return dict(zip(encoded, found, strict=True))
