"""The list of sets: which function makes which folder."""

from .blister import pill_blister
from .board import circuit_board
from .brain import brain_phantom
from .brick import brick
from .coins import coins
from .digits import digits
from .fools import fools_board, fools_gravel
from .lawn import lawn
from .textile import textile
from .washer import washer

MAKERS = {
    "textile": textile,
    "brick": brick,
    "lawn": lawn,
    "circuit-board": circuit_board,
    "washer": washer,
    "pill-blister": pill_blister,
    "brain-phantom": brain_phantom,
    "digits": digits,
    "coins": coins,
    "fools-board": fools_board,
    "fools-gravel": fools_gravel,
}
