"""Random sentences for the built-in corpus: templates filled from word lists chosen for broad phoneme coverage.

Held-out sentences never occur in training: a checksum of the text decides which split a sentence belongs to.
"""

import re
import zlib

import numpy as np

from vasa_jax.errors import InputError

HELDOUT_PARTS = 8  # one sentence in this many is held out

# language -> (templates, {slot: alternatives}); alternatives are separated by "|" and carry their own article.
_GRAMMARS = {
    "en": (
        "{who} {verb} {thing} {place}.|{who} {verb} {thing} and {thing2}.|{when}, {who} {verb} {thing} {place}."
        "|Did you see {thing} {place}?|Why would {who} bring {thing} {place}?|Please show me {thing}.|{hello}"
        "|I think {who} {verb} {thing}, but {who2} {verb2} {thing2}.|{hello} {who} {verb} {thing}."
        "|{number} people found {thing} {place}, and {number2} did not.|Perhaps {thing} looked {how}."
        "|Did {thing} look {how}, or {how2}?"
        "|{when}, {thing} looked {how} and {how2}.|Could you move {thing} {place} before {time}?"
        "|It is {how}, isn't it?"
        "|We should meet {place} at {time}.|{feeling}! {who} {verb} {thing}.|{feeling}!",
        {
            "who": "my mother|a young judge|Bob and Peggy|the pilot|our neighbour|Joyce|the famous poet"
            "|that shy boy|Charlie"
            "|the vet|Uncle Hugh|a quiet guard|the chief engineer|Maya|both brothers|the big puppy|George|somebody"
            "|the queen|Olivia|every farmer|an old sailor|Zoe|the bus driver",
            "verb": "bought|found|painted|enjoyed|watched|borrowed|pushed|measured|chose|carried|laughed about|forgot"
            "|wrapped up|threw away|looked for|heard about|mixed|gave back|opened|described|voted for|dreamed of",
            "thing": "a purple apple|the thin paper box|five warm blankets|a piece of cheese|the blue bicycle"
            "|an orange juice"
            "|the heavy metal pump|some fresh bread|the old leather shoes|a measure of vision|the garage door"
            "|his thumb"
            "|three thousand feathers|the boiling water|a huge yellow umbrella|the church clock|her favourite song"
            "|a bunch of flowers|the wooden table|pure white sugar|a cup of tea|the map of Europe|our new house"
            "|a foggy beach"
            "|that rusty key|the silver spoon|the weather|a jumping frog|the usual question|a television show",
            "place": "in the kitchen|near the river|behind the school|at the top of the mountain|on the bus"
            "|in the middle of May"
            "|by the old bridge|under the moon|outside the zoo|in a small village|on the beach|at the museum|up north"
            "|from the third floor|with both hands|beyond the lake|in Paris|at our house",
            "when": "Yesterday|This morning|On Thursday|After a while|In the evening|Last summer|Before breakfast"
            "|Just now|Years ago",
            "how": "absolutely beautiful|rather smooth|too loud|very cheap|quite unusual|surprisingly heavy"
            "|pretty good|awful"
            "|almost empty|wonderful|far too hot|a bit vague|very young|thick|perfectly fine|oily|worth it",
            "number": "two|seven|fourteen|thirty three|a hundred|forty five|eleven|six thousand|only eight"
            "|nearly ninety",
            "time": "noon|five o'clock|half past three|midnight|eleven|quarter to two|the weekend",
            "hello": "Hello there!|Good morning.|Oh, I see.|Well, maybe.|Hi, how are you?|Thank you very much."
            "|Yes, of course."
            "|Let me think about it.|You know what?|Never mind.|Excuse me.|Okay, let's begin.",
            "feeling": "How lovely|What a pity|Oh my goodness|That is so funny|I can't believe it|Watch out"
            "|What a surprise"
            "|No, not again|Thank goodness|Please stop it",
        },
    ),
    "de": (
        "{who} {verb} {thing} {place}.|{when} {verb} {who} {thing}.|{hello} {who} {verb} {thing}.|{hello}"
        "|Warum {verb} {who} {thing} {place}?|Ich glaube, {who} {verb} {thing}.|Das ist {how}.",
        {
            "who": "meine Mutter|der junge Bäcker|Herr Müller|das kleine Mädchen|unser Nachbar|Jürgen|die Ärztin"
            "|jemand|Sophie"
            "|der Pfarrer|mein Onkel|die Königin",
            "verb": "sucht|kauft|vergisst|beobachtet|mag|bringt|öffnet|beschreibt|wäscht|zeichnet|findet|probiert",
            "thing": "einen schönen Apfel|das blaue Fahrrad|zwei warme Brötchen|die Bücher|eine Flasche Wasser"
            "|das große Haus"
            "|den alten Baum|frische Pilze|die Straße|eine Tasse Tee|das Gepäck|fünf Äpfel",
            "place": "im Garten|auf dem Berg|bei der Brücke|in München|neben dem Bahnhof|unter dem Dach|am Abend"
            "|in der Küche",
            "when": "Gestern|Heute Morgen|Am Dienstag|Später|Im Frühling|Manchmal",
            "how": "wunderschön|ziemlich teuer|viel zu heiß|sehr gemütlich|leider kaputt|ganz einfach",
            "hello": "Guten Tag!|Ach so.|Vielen Dank.|Wie geht es Ihnen?|Bitte schön.|Na gut.|Das glaube ich nicht!",
        },
    ),
    "fr": (
        "{who} {verb} {thing} {place}.|{when}, {who} {verb} {thing}.|{hello} {who} {verb} {thing}.|{hello}"
        "|Pourquoi est-ce que {who} {verb} {thing} {place}?|Je pense que {who} {verb} {thing}.|{thing}, c'est {how}.",
        {
            "who": "ma mère|le jeune boulanger|monsieur Dupont|la petite fille|notre voisin|Juliette|le médecin"
            "|quelqu'un"
            "|mon oncle Hugo|la reine|Benoît|un vieux pêcheur",
            "verb": "cherche|achète|oublie|regarde|aime|apporte|ouvre|décrit|lave|trouve|mange|prépare",
            "thing": "une belle pomme|le vélo bleu|deux petits pains|les livres|une bouteille d'eau|la grande maison"
            "|un vieux chapeau|des champignons|la feuille jaune|une tasse de thé|le bagage|cinq œufs",
            "place": "dans le jardin|sur la montagne|près du pont|à Bordeaux|devant la gare|sous la pluie"
            "|dans la cuisine|au marché",
            "when": "Hier|Ce matin|Jeudi prochain|Plus tard|Au printemps|Quelquefois",
            "how": "magnifique|un peu cher|beaucoup trop chaud|très joyeux|vraiment simple|bien étrange",
            "hello": "Bonjour!|Ah bon.|Merci beaucoup.|Comment allez-vous?|Je vous en prie.|Peut-être."
            "|Quelle surprise!",
        },
    ),
    "es": (
        "{who} {verb} {thing} {place}.|{when}, {who} {verb} {thing}.|{hello} {who} {verb} {thing}.|{hello}"
        "|¿Por qué {verb} {who} {thing} {place}?|Creo que {who} {verb} {thing}.|Es {how}, ¿no?",
        {
            "who": "mi madre|el joven panadero|el señor Gómez|la niña pequeña|nuestro vecino|Javier|la médica"
            "|alguien|mi tío"
            "|la reina|Pilar|un viejo pescador",
            "verb": "busca|compra|olvida|mira|prefiere|lleva|abre|describe|lava|encuentra|come|prepara",
            "thing": "una manzana bonita|la bicicleta azul|dos panes calientes|los libros|una botella de agua"
            "|la casa grande"
            "|un sombrero viejo|el pimiento verde|la calle|una taza de té|el equipaje|cinco huevos",
            "place": "en el jardín|en la montaña|cerca del puente|en Barcelona|delante del museo|bajo la lluvia"
            "|en la cocina",
            "when": "Ayer|Esta mañana|El jueves|Más tarde|En primavera|A veces",
            "how": "muy bonito|un poco caro|demasiado caliente|bastante raro|muy fácil|feo",
            "hello": "¡Buenos días!|Ya veo.|Muchas gracias.|¿Cómo está usted?|Por favor.|Tal vez.|¡Qué sorpresa!",
        },
    ),
    "it": (
        "{who} {verb} {thing} {place}.|{when}, {who} {verb} {thing}.|{hello} {who} {verb} {thing}.|{hello}"
        "|Perché {who} {verb} {thing} {place}?|Penso che {who} {verb} {thing}.|È {how}, vero?",
        {
            "who": "mia madre|il giovane fornaio|il signor Bianchi|la bambina|il nostro vicino|Giulia|il medico"
            "|qualcuno|lo zio"
            "|la regina|Beppe|un vecchio pescatore",
            "verb": "cerca|compra|dimentica|guarda|ama|porta|apre|descrive|lava|trova|mangia|prepara",
            "thing": "una bella mela|la bicicletta blu|due panini caldi|i libri|una bottiglia d'acqua"
            "|la casa grande|gli spaghetti"
            "|un vecchio cappello|i funghi|la foglia gialla|una tazza di tè|il bagaglio|cinque uova",
            "place": "in giardino|sulla montagna|vicino al ponte|a Bologna|davanti al museo|sotto la pioggia|in cucina",
            "when": "Ieri|Stamattina|Giovedì|Più tardi|In primavera|Qualche volta",
            "how": "bellissimo|un po' caro|troppo caldo|piuttosto strano|molto semplice|brutto",
            "hello": "Buongiorno!|Ah, capisco.|Grazie mille.|Come sta?|Prego.|Forse.|Che sorpresa!",
        },
    ),
    "pt": (
        "{who} {verb} {thing} {place}.|{when}, {who} {verb} {thing}.|{hello} {who} {verb} {thing}.|{hello}"
        "|Por que {who} {verb} {thing} {place}?|Acho que {who} {verb} {thing}.|É {how}, não é?",
        {
            "who": "minha mãe|o jovem padeiro|o senhor João|a menina|o nosso vizinho|Juliana|a médica|alguém"
            "|meu tio|a rainha",
            "verb": "procura|compra|esquece|olha|prefere|leva|abre|descreve|lava|encontra|come|prepara",
            "thing": "uma maçã bonita|a bicicleta azul|dois pães quentes|os livros|uma garrafa de água|a casa grande"
            "|um chapéu velho|o peixe fresco|a folha amarela|uma xícara de chá|a bagagem|cinco ovos",
            "place": "no jardim|na montanha|perto da ponte|em Lisboa|em frente ao museu|debaixo da chuva|na cozinha",
            "when": "Ontem|Hoje de manhã|Na quinta-feira|Mais tarde|Na primavera|Às vezes",
            "how": "muito bonito|um pouco caro|quente demais|bastante estranho|bem simples|feio",
            "hello": "Bom dia!|Ah, entendi.|Muito obrigado.|Como vai você?|Por favor.|Talvez.|Que surpresa!",
        },
    ),
    "nl": (
        "{who} {verb} {thing} {place}.|{when} {verb} {who} {thing}.|{hello} {who} {verb} {thing}.|{hello}"
        "|Waarom {verb} {who} {thing} {place}?|Ik denk dat het {how} is.|Dat is {how}, toch?",
        {
            "who": "mijn moeder|de jonge bakker|meneer de Vries|het kleine meisje|onze buurman|Joris|de dokter"
            "|iemand|mijn oom",
            "verb": "zoekt|koopt|vergeet|bekijkt|schildert|brengt|opent|beschrijft|wast|vindt|proeft|bewaart",
            "thing": "een mooie appel|de blauwe fiets|twee warme broodjes|de boeken|een fles water|het grote huis"
            "|de oude hoed"
            "|verse paddenstoelen|het gele blad|een kopje thee|de bagage|vijf eieren",
            "place": "in de tuin|op de berg|bij de brug|in Amsterdam|voor het museum|onder de maan|in de keuken"
            "|op het schip",
            "when": "Gisteren|Vanmorgen|Op donderdag|Later|In de lente|Soms",
            "how": "prachtig|een beetje duur|veel te heet|nogal vreemd|heel gezellig|erg mooi",
            "hello": "Goedemorgen!|O ja.|Dank je wel.|Hoe gaat het?|Alsjeblieft.|Misschien.|Wat een verrassing!",
        },
    ),
    "pl": (
        "{who} {verb} {thing} {place}.|{when} {who} {verb} {thing}.|{hello} {who} {verb} {thing}.|{hello}"
        "|Dlaczego {who} {verb} {thing} {place}?|Myślę, że {who} {verb} {thing}.",
        {
            "who": "moja mama|młody piekarz|pan Nowak|mała dziewczynka|nasz sąsiad|Jadwiga|lekarz|ktoś|mój wujek"
            "|królowa",
            "verb": "widzi|kupuje|poznaje|ogląda|lubi|przynosi|otwiera|opisuje|myje|znajduje|je|maluje",
            "thing": "jabłko|niebieski rower|dwie bułki|książki|butelkę wody|duży dom|stary kapelusz|grzyby"
            "|żółty liść"
            "|filiżankę herbaty|bagaż|pięć jajek",
            "place": "w ogrodzie|w górach|koło mostu|w Warszawie|przed muzeum|na deszczu|w kuchni",
            "when": "Wczoraj|Dziś rano|W czwartek|Później|Na wiosnę|Czasami",
            "hello": "Dzień dobry!|No tak.|Dziękuję bardzo.|Jak się masz?|Proszę.|Może.|Co za niespodzianka!",
        },
    ),
}
LANGUAGES = tuple(_GRAMMARS)


def is_heldout(text: str) -> bool:
    """Returns whether a sentence belongs to the held-out split; a pure function of the text."""
    return zlib.crc32(text.encode("utf-8")) % HELDOUT_PARTS == 0


def sample_sentence(rng: np.random.Generator, language: str, split: str, max_chars: int = 120) -> str:
    """Draws a sentence of one split, at most `max_chars` long (the shortest of many draws when none fits).

    Raises InputError for a language outside LANGUAGES or a split other than 'train' and 'heldout'.
    """
    if language not in _GRAMMARS:
        raise InputError(f"language {language!r}: no sentences for it; choose one of {', '.join(LANGUAGES)}")
    if split not in ("train", "heldout"):
        raise InputError(f"split {split!r}: unknown; choose 'train' or 'heldout'")
    templates, slots = _GRAMMARS[language]
    templates = templates.split("|")
    shortest = None
    tries = 0
    while shortest is None or (tries < 200 and len(shortest) > max_chars):
        tries += 1
        text = _fill(rng, templates[rng.integers(len(templates))], slots)
        if is_heldout(text) == (split == "heldout") and (shortest is None or len(text) < len(shortest)):
            shortest = text
    return shortest


def _fill(rng, template, slots):
    used = set()

    def pick(match):
        words = slots[match.group(1).rstrip("0123456789")].split("|")
        free = [word for word in words if word not in used]
        word = free[rng.integers(len(free))]
        used.add(word)
        return word

    text = re.sub(r"\{(\w+)\}", pick, template)
    return re.sub(r"(^|[.!?] )(\w)", lambda match: match.group(1) + match.group(2).upper(), text)
