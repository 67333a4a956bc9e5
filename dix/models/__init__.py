"""Builders of the networks that the benchmark explains; each returns a plain torch module in evaluation mode.

Only modules of this package import torchvision or timm at their top, so this is where torchvision is repaired, and
where both are kept from loading torch's compiler.
"""

from dix import compiler_later, torchvision_repair

torchvision_repair.install()
compiler_later.install()
