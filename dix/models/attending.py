"""Which attention a network has between the tokens of one grid, and which of them its head reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from dix.classifier import Attention
from dix.layout import Tokens
from dix.look import MOST_BEFORE, Sight

#: Gradients of two tokens that differ by less, relative to the largest, are equal.
EQUAL = 1e-3


def attention_between(
    sights: Sequence[Sight], stem: set[str], gradient: Callable[[str], Tensor], follows: Callable[[str], bool]
) -> tuple[Attention | None, str]:
    """The attention between all tokens, or None and the reason why there is none ("": no softmax attention runs).

    sights: of every module. stem: modules that make tokens of the image. gradient: of a mixture of the logits by what
    a module returns for one image, [1, T, C]. follows: whether the columns of a module's matrices follow the image.

    Every matrix must be between tokens of one grid, which come last: square; or one row, of a class token that reads
    all tokens (its own among them) or of a query that pools them, which then counts as one more token, the first.
    """
    matrices = [one for one in sights if one.attention]
    if not matrices:
        return None, ""
    sides = {one.side for one in sights if one.layout and one.name not in stem}
    if len(sides) != 1:
        return None, f"its attention is between the places of {len(sides)} resolutions, not of one grid"
    patches = sides.pop() ** 2
    if reason := _other(matrices, patches):
        return None, reason
    unsure = [one.name for one in matrices if _may_be_channels(sights, one)]
    if unsure and not follows(unsure[0]):
        why = "it is between channels, or inside windows"
        return None, f"the attention of {unsure[0]} does not follow the grid of patches: {why}"
    before = max((one.shape[-1] - patches for one in matrices if _is_square(one)), default=0)
    tokens = [one for one in sights if len(one.shape) == 2 and patches <= one.shape[0] <= patches + MOST_BEFORE]
    if not _first(tokens, patches):
        return None, "its tokens other than patches do not come first"
    count = patches + before + (not all(map(_is_square, matrices)))
    readout = (0,) if _pools(matrices[-1], patches + before) else _readout(tokens, count, gradient)
    if not readout:
        return None, "its head reads no mean of tokens"
    places = tuple((0 if one.shape[-2] == 1 else count - one.shape[-2], count - one.shape[-1]) for one in matrices)
    spread = places if any(any(place) for place in places) or count > patches + before else ()
    return Attention(tuple(one.name for one in matrices), count - patches, readout, spread), ""


def _is_square(one: Sight) -> bool:
    return one.shape[-1] == one.shape[-2]


def _pools(one: Sight, tokens: int) -> bool:
    """Whether the single row is a query's that is none of the tokens it reads."""
    return not _is_square(one) and one.shape[-1] <= tokens


def _other(matrices: Sequence[Sight], patches: int) -> str:
    """Why a matrix is not one between the tokens of the grid, or ""."""
    for one in matrices:
        rows, columns = one.shape[-2:]
        if not patches <= columns <= patches + MOST_BEFORE:
            what = "channels" if rows == columns else "pooled places"
            return (
                f"the attention of {one.name} is between {what} ({rows} x {columns}), not between its {patches} patches"
            )
        if rows not in (1, columns):
            return f"the attention of {one.name} has {rows} queries for {columns} tokens"
    return ""


def _may_be_channels(sights: Sequence[Sight], one: Sight) -> bool:
    """Whether a head has as many channels as there are tokens, so that the matrix's size does not tell them apart."""
    rows = one.shape[-1]
    return _is_square(one) and any(len(t.shape) == 2 and t.shape[1] == rows * one.shape[0] for t in sights)


def _first(tokens: Sequence[Sight], patches: int) -> bool:
    """Whether what is no patch stands before the patches, wherever it is seen how tokens lie."""
    seen = [one for one in tokens if isinstance(one.layout, Tokens)]
    return bool(seen) and all(one.layout.before == one.shape[0] - patches for one in seen)  # type: ignore[union-attr]


def _readout(tokens: Sequence[Sight], count: int, gradient: Callable[[str], Tensor]) -> tuple[int, ...]:
    """Indices of the tokens that the logits read alike, behind the last module that returns all of them; () if none.

    The gradient of a mean is equal for all that it is taken of. Tokens with other gradients are weighed by something
    that depends on the image. Tokens before the patches may have heads of their own, whose outputs are averaged.
    """
    whole = [one.name for one in tokens if one.shape[0] == count]
    if not whole:
        return ()
    rows = gradient(whole[-1])[0]
    read = (rows.abs().amax(dim=1) > 0).nonzero().flatten()
    if not len(read):
        return ()
    spread = (rows[read] - rows[read].mean(dim=0)).abs().max() / rows[read].abs().max()
    alike = bool(spread <= EQUAL) or len(read) <= 2
    return tuple(read.tolist()) if alike else ()
