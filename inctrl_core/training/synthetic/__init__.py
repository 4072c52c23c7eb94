"""A procedural source of auxiliary data: any number of classes of object, texture and soft body.

Each class has good images that vary as cameras and fixtures make them vary, and bad images of some
twenty kinds. Everything follows from a seed and a class number, so nothing needs to be stored. The
only material that is not drawn from formulas are the photographs that scikit-image ships: as
textures, and as classes of their own.
"""

from .classes import ProceduralClass, photographed_class, procedural_class
from .fields import SIZE

__all__ = ["SIZE", "ProceduralClass", "photographed_class", "procedural_class"]
