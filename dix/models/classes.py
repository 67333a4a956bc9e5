"""What ImageNet-1k's classes are called."""

from timm.data.imagenet_info import ImageNetInfo


def imagenet_class(label: int) -> str:
    """The first of the names that a class has, as in "tiger cat"."""
    return str(ImageNetInfo().index_to_description(label)).split(",")[0]
