"""The words of this field and of this project, explained in a sentence and marked where a section first uses them."""

from __future__ import annotations

import re

# Term → what it means. A term is matched as a whole word, a longer term before a shorter one.
WORDS = {
    "token": "the vector that stands for one patch of the image (or for what several patches became)",
    "class token": "the extra token of a transformer from which it reads the class",
    "class attention": "how much the class token looks at each image token",
    "class feature": "the class token's vector behind the last layer, which a classifier or a probe reads",
    "semantic tokens": "STViT's few tokens: cluster centers that attention recovers from all image tokens",
    "keep rate": "the share of the tokens that a reduction leaves, each time that it acts",
    "multiply-adds": "a multiplication and an addition, counted as one; what the papers call FLOPs",
    "FLOPs": "here multiply-adds, as in the papers: a multiplication and an addition count as one",
    "closed form": "a formula that gives a model's FLOPs from its sizes, without running it",
    "erratum": "a place where a paper is wrong or contradicts itself, with the reason and a test",
    "errata": "places where a paper is wrong or contradicts itself, each with the reason and a test",
    "off the shelf": "put into a trained model, which is not trained again",
    "centred cosine": "cosine of two features after the mean feature of all images is taken off both: 1 is the same",
    "dense": "without reduction: all tokens in all layers; dense output is a value for each pixel",
    "distilled": "trained to give another model's feature, without labels",
    "STViT-R": "STViT that brings the full map of tokens back, for detection and segmentation",
    "STViT": "the paper's Semantic Token Vision Transformer, of Chang et al., CVPR 2023",
    "BAT": "Beyond Attentive Tokens, Long et al., CVPR 2023: keeps by attention, merges by likeness",
    "EViT": "keeps the tokens with most class attention and fuses the others into one",
    "ToMe": "merges pairs of tokens with similar keys, in each layer",
    "DynamicViT": "drops tokens that a small learned predictor scores low",
    "top-k": "keeps the tokens with most class attention and drops the others",
    "STGM": "semantic token generation module: the layers of STViT that make semantic tokens",
    "dumbbell unit": "STViT-R's block: semantic tokens are made, worked on, and spread back to the map",
    "dumbbell units": "STViT-R's blocks: semantic tokens are made, worked on, and spread back to the map",
    "scenes": "images that this project draws: textured, overlapping objects, one of them marked",
    "micro Swin": "a Swin of a few thousand weights, small enough to train on a CPU",
    "rollout": "attention of all layers multiplied together, from the output back to the image",
    "purity": "the share of a cluster's patches that belong to its most frequent object",
    "IoU": "intersection over union: the overlap of two regions over what they cover together",
    "AP": "average precision, the score of detection",
    "bootstrap": "an interval from drawing the images again and again, with replacement",
    "Bonferroni": "intervals widened so that all claims hold together at 95 %",
    "Holm": "a correction that makes all verdicts hold together at 95 %",
    "UperNet": "a segmentation head that is put on a backbone",
    "muon": "an optimiser that makes the update of a matrix orthogonal",
    "certified": "of a bound: proved, constants and all",
    "vacuous": "of a bound: above what is possible anyway, so that it says nothing",
    "F1": "the formula of the updated center, over infinitely many tokens",
    "F2": "the formula of the updated center's covariance, over n tokens",
    "F3": "the formula of the mean cosine defect 1 − cos, over n tokens",
    "F4": "the formula of the cosine defect 1 − cos, over infinitely many tokens",
    "heavy tails": "a variance at which few tokens have most of the weight of a softmax",
    "half_width": "half the width of the 95 % interval of the difference",
    "half width": "half the width of the 95 % interval",
    "pooled": "by the spread of all rows together, where a row alone has few seeds",
    "sd": "standard deviation over seeds",
    "limit": "the speed-up that the saved FLOPs alone would give",
    "realised": "the share of the saved FLOPs that is saved time",
    "roofline": "the time that a part would take at the first model's rate of FLOPs",
    "top1": "the share of images whose first guess is right (%)",
    "quartiles": "the values that a quarter and three quarters of the measurements lie below",
}
MARKUP = re.compile(r"(<[^>]+>)")
CLOSED = {"a", "code", "h2", "h3", "summary"}  # nothing is marked inside these
TERM = re.compile(
    r"(?<![\w-])(" + "|".join(map(re.escape, sorted(WORDS, key=len, reverse=True))) + r")(?![\w-])"
)


def anchor(term: str) -> str:
    return "word-" + re.sub(r"\W+", "-", term.lower())


def mark(html: str, seen: set[str]) -> str:
    """``html`` with each term that is not in ``seen`` linked to what it means, once; ``seen`` grows."""
    parts, inside = MARKUP.split(html), 0
    for i, part in enumerate(parts):
        if part.startswith("<"):
            name = part.strip("</>").split()[0] if part.strip("</>") else ""
            inside += (name in CLOSED) * (-1 if part.startswith("</") else 1)
        elif not inside:
            parts[i] = TERM.sub(lambda found: _linked(found[1], seen), part)
    return "".join(parts)


def _linked(term: str, seen: set[str]) -> str:
    if term in seen:
        return term
    seen.add(term)
    return f'<a class="word" href="#{anchor(term)}" title="{WORDS[term]}">{term}</a>'
