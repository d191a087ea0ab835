"""ComfyUI pack of the demo: a small trained emoji model as an ordinary MODEL, with the nodes around it.

Separate from the extension: the extension does not need it, and a user's ComfyUI does not load it. The network and its weights
lie in the folder above (or beside this file, where the pack was copied instead of linked).
"""

from .nodes import EmojiDemoDecode, EmojiDemoEncode, EmojiDemoLatent, EmojiDemoModel, EmojiDemoPrompt, comfy_entrypoint

__all__ = ["EmojiDemoDecode", "EmojiDemoEncode", "EmojiDemoLatent", "EmojiDemoModel", "EmojiDemoPrompt", "comfy_entrypoint"]
