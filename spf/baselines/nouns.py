"""Ordinary nouns of one word: among them Magnet looks for the neighbours of a prompt's nouns.

People and portraits come first, since they are what is asked for; the painted world's nouns are among them. Which of
them a text encoder knows as words of its own, its tokenizer says (`spf.baselines.magnet`).
"""

NOUNS: tuple[str, ...] = tuple("""
woman man girl boy person child baby lady gentleman adult teenager mother father sister brother daughter son wife
husband friend bride queen king prince princess knight soldier sailor pilot doctor nurse teacher student artist painter
singer dancer actor actress musician farmer chef waiter worker driver hunter monk priest nun judge lawyer scientist
engineer model athlete boxer clown wizard witch pirate cowboy ninja samurai warrior angel ghost robot doll mask statue

head face hair skin eye eyes nose mouth lip lips ear ears cheek chin jaw forehead neck shoulder arm hand finger nail
palm leg knee foot chest back body heart brain bone tooth teeth tongue beard mustache moustache eyebrow eyelashes
freckles wrinkles dimple scar tattoo makeup lipstick mascara smile expression age hairstyle haircut cut bun bob braid
ponytail bangs fringe mohawk wig curls

shirt blouse sweater jacket coat dress skirt suit vest hoodie uniform robe cloak cape gown kimono jeans trousers pants
shorts sock shoe shoes boot boots sandal slipper hat cap beret helmet crown hood veil scarf tie bow belt glove gloves
mitten glasses sunglasses goggles earring earrings necklace pendant bracelet ring brooch watch jewelry pearl diamond
gold silver bronze button zipper pocket collar sleeve apron bikini swimsuit pajamas underwear costume armour armor
shield sword outfit fashion style headband ribbon headphones piercing lace silk velvet leather denim wool cotton fur

background wall window curtain gradient room studio stage floor ceiling door roof stairs corner frame mirror poster
pattern texture color light shadow sunlight moonlight spotlight smoke fog mist dust bokeh drawing sketch pencil

dog cat puppy kitten horse pony cow bull calf pig sheep lamb goat donkey mule rabbit hare mouse rat squirrel hamster fox
wolf bear panda koala lion tiger leopard cheetah elephant giraffe zebra rhino hippo camel deer moose monkey gorilla
kangaroo bat bird eagle owl crow raven pigeon dove swan goose duck chicken rooster turkey peacock parrot penguin
flamingo ostrich fish shark whale dolphin seal octopus crab lobster shrimp turtle frog toad snake lizard crocodile
dinosaur dragon unicorn butterfly bee ant spider beetle snail worm

apple banana orange lemon lime peach pear plum cherry grape strawberry blueberry raspberry melon watermelon pineapple
mango coconut avocado tomato potato carrot onion garlic pepper cucumber corn pumpkin mushroom broccoli cabbage lettuce
spinach bean pea rice bread toast bagel muffin pancake waffle cake cookie pie donut chocolate candy honey sugar salt
butter cheese egg milk cream yogurt meat beef bacon sausage steak ham burger sandwich pizza pasta noodles soup salad
sushi taco coffee tea juice beer wine water soda cocktail

table chair sofa couch bench stool desk bed pillow blanket carpet rug lamp candle lantern shelf cabinet drawer wardrobe
clock vase basket box bag backpack suitcase purse wallet bottle cup mug glass plate bowl fork knife spoon pan pot kettle
oven stove fridge toaster sink bathtub toilet towel soap brush comb toothbrush bucket broom umbrella key lock rope chain
ladder hammer saw drill screw axe shovel scissors needle thread tape glue pen marker crayon paper book notebook
magazine newspaper letter envelope stamp map card photo painting canvas easel toy ball balloon kite puzzle dice drum
guitar piano violin flute trumpet harp microphone camera phone laptop computer keyboard screen television radio speaker
battery cable bulb fan heater

house home building tower castle palace church temple mosque cathedral school library museum hospital hotel restaurant
cafe bar shop market factory farm barn garage office kitchen bedroom bathroom garden yard park playground stadium
theater station airport harbor bridge tunnel road street alley path sidewalk fence gate fountain

car truck bus van taxi train tram bicycle bike motorcycle scooter boat ship yacht canoe raft submarine plane airplane
helicopter rocket spaceship tractor wagon cart wheel engine tire

tree leaf branch trunk root flower rose tulip daisy lily sunflower orchid grass bush moss fern cactus bamboo forest
jungle field meadow hill mountain valley canyon cliff cave desert beach sand island ocean sea lake river stream
waterfall pond wave rock stone pebble mud soil ice snow rain storm cloud sky sun moon star planet rainbow lightning fire
flame ash metal wood plastic brick marble
""".split())
