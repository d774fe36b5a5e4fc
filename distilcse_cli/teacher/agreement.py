"""How well a student agrees with its teacher on sentences without labels.

Shape letters: N sentences, D teacher width, S student width.
"""

from dataclasses import asdict, dataclass

import numpy as np

from distilcse_cli.teacher.neighbours import nearest, shared, unit_rows

NUM_NEIGHBORS = 10


@dataclass(frozen=True)
class Agreement:
    """Three views of agreement over the same N sentences."""

    pair_spearman: float
    """Spearman correlation x 100 of the cosines of all N (N - 1) / 2 pairs."""
    neighbor_overlap: float
    """Share x 100 of each sentence's ten nearest other sentences that is the same for both models."""
    mean_cosine: float | None
    """Mean cosine between the two embeddings of a sentence; None where the widths differ."""

    def as_dict(self) -> dict[str, float | None]:
        """Field names and values, for JSON and model cards."""
        return asdict(self)

    def __str__(self) -> str:
        cosine = "" if self.mean_cosine is None else f", mean cosine {self.mean_cosine:.4f}"
        return f"pair Spearman {self.pair_spearman:.2f}, ten nearest shared {self.neighbor_overlap:.2f} %{cosine}"


def agreement(student: np.ndarray, teacher: np.ndarray) -> Agreement:
    """Compare two models' embeddings of the same sentences.

    Args:
        student: (N, S) embeddings of any length.
        teacher: (N, D) embeddings of any length, same sentences in the same order.

    Raises:
        ValueError: the two differ in rows, or there are fewer than three.
    """
    if len(student) != len(teacher) or len(student) < 3:
        raise ValueError(f"student {student.shape}, teacher {teacher.shape}: at least 3 rows each, and as many")
    from scipy.stats import spearmanr

    student, teacher = unit_rows(student), unit_rows(teacher)
    student_cosines, teacher_cosines = student @ student.T, teacher @ teacher.T
    pairs = np.triu_indices(len(student), k=1)
    spearman = spearmanr(student_cosines[pairs], teacher_cosines[pairs]).statistic
    near, own = min(NUM_NEIGHBORS, len(student) - 1), np.arange(len(student))
    mine, theirs = (nearest(rows, rows, near, leave_out=own) for rows in (student, teacher))
    same_width = student.shape[1] == teacher.shape[1]
    return Agreement(
        pair_spearman=100 * float(spearman),
        neighbor_overlap=100 * shared(mine, theirs),
        mean_cosine=float((student * teacher).sum(axis=1).mean()) if same_width else None,
    )
