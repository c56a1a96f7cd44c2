"""Private set intersection: two data owners find the ids that both have, and neither shows the others."""

from umbel.privacy.psi.consent import Asked, Consent
from umbel.privacy.psi.exchange import Asker, Holder

__all__ = ["Asked", "Asker", "Consent", "Holder"]
