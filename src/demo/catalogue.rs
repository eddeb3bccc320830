//! What the shop sells: 480 products made from word lists, the same in every process.
//!
//! Decides: names, categories, prices, stock, and which products a list or a search selects, in
//! which order. Never touches: HTTP. A price is the one thing that can change; it changes in memory
//! and is forgotten when the process ends.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// How many products there are; ids run from 1 to this.
pub(super) const PRODUCTS: u32 = 480;
/// The highest price, in cents.
pub(super) const MAX_CENTS: u64 = 100_000_000;
/// How many products a search returns at most.
pub(super) const SEARCH_LIMIT: usize = 20;

/// 2026-01-05 08:00:00 UTC, in seconds: when the first product was last changed, everywhere.
const FIRST_CHANGE: u64 = 1_767_600_000;

/// A category: its slug, what its things are made of, and what they are.
struct Category {
    slug: &'static str,
    materials: [&'static str; 4],
    nouns: [&'static str; 10],
}

const CATEGORIES: [Category; 8] = [
    Category {
        slug: "kitchen",
        materials: ["stoneware", "beech", "steel", "enamel"],
        nouns: [
            "mixing bowl",
            "teapot",
            "chopping board",
            "saucepan",
            "bread bin",
            "pepper mill",
            "colander",
            "butter dish",
            "coffee dripper",
            "measuring jug",
        ],
    },
    Category {
        slug: "garden",
        materials: ["ash", "galvanised", "terracotta", "brass"],
        nouns: [
            "trowel",
            "watering can",
            "plant pot",
            "hose nozzle",
            "hand fork",
            "bird feeder",
            "seed tray",
            "pruning saw",
            "dibber",
            "rain gauge",
        ],
    },
    Category {
        slug: "office",
        materials: ["walnut", "aluminium", "cork", "recycled paper"],
        nouns: [
            "desk tray",
            "notebook",
            "pen stand",
            "letter opener",
            "monitor shelf",
            "pin board",
            "bookend",
            "paper weight",
            "card box",
            "wall planner",
        ],
    },
    Category {
        slug: "lighting",
        materials: ["opal glass", "linen", "brass", "oak"],
        nouns: [
            "desk lamp",
            "pendant",
            "wall light",
            "lantern",
            "candle holder",
            "floor lamp",
            "night light",
            "reading lamp",
            "string of lights",
            "lampshade",
        ],
    },
    Category {
        slug: "outdoor",
        materials: ["waxed cotton", "titanium", "nylon", "merino"],
        nouns: [
            "tarp",
            "cooking pot",
            "sleeping bag",
            "head torch",
            "water bottle",
            "camp stool",
            "stuff sack",
            "tent peg set",
            "rope",
            "blanket",
        ],
    },
    Category {
        slug: "bags",
        materials: ["canvas", "leather", "felt", "ripstop"],
        nouns: [
            "rucksack",
            "tote",
            "satchel",
            "pannier",
            "wash bag",
            "pencil case",
            "holdall",
            "laptop sleeve",
            "belt pouch",
            "shopping net",
        ],
    },
    Category {
        slug: "toys",
        materials: ["maple", "tin", "wool", "cardboard"],
        nouns: [
            "train",
            "spinning top",
            "building blocks",
            "puppet",
            "kite",
            "marble run",
            "puzzle",
            "rocking horse",
            "toy boat",
            "domino set",
        ],
    },
    Category {
        slug: "textiles",
        materials: ["linen", "organic cotton", "lambswool", "hemp"],
        nouns: [
            "tea towel",
            "cushion cover",
            "throw",
            "apron",
            "bath towel",
            "table runner",
            "pillowcase",
            "oven glove",
            "napkin set",
            "door mat",
        ],
    },
];

const ADJECTIVES: [&str; 6] = ["Plain", "Folding", "Large", "Little", "Everyday", "Hand-made"];

/// The slugs of all categories.
pub(super) fn categories() -> impl Iterator<Item = &'static str> {
    CATEGORIES.iter().map(|category| category.slug)
}

/// One product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) category: &'static str,
    pub(super) material: &'static str,
    /// Price in cents.
    pub(super) cents: u64,
    pub(super) stock: u32,
    /// 1, and one more with every change of price.
    pub(super) revision: u32,
    /// When it was last changed, in seconds since the Unix epoch.
    pub(super) modified: u64,
}

impl Serialize for Product {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Product", 9)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("category", self.category)?;
        fields.serialize_field("material", self.material)?;
        // Exact: a double holds every number of cents up to MAX_CENTS, and prints the shortest form.
        fields.serialize_field("price", &(self.cents as f64 / 100.0))?;
        fields.serialize_field("currency", "EUR")?;
        fields.serialize_field("stock", &self.stock)?;
        fields.serialize_field("revision", &self.revision)?;
        fields.serialize_field("image", &format_args!("/images/{}.png", self.id))?;
        fields.end()
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Id,
    PriceUp,
    PriceDown,
    NameUp,
    NameDown,
}

impl Sort {
    /// The names a request may use.
    pub(super) const NAMES: &'static str = "id, price, -price, name, -name";

    /// The order a request names.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "id" => Some(Self::Id),
            "price" => Some(Self::PriceUp),
            "-price" => Some(Self::PriceDown),
            "name" => Some(Self::NameUp),
            "-name" => Some(Self::NameDown),
            _ => None,
        }
    }
}

/// What a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) category: Option<&'static str>,
    pub(super) min_cents: u64,
    pub(super) max_cents: u64,
    pub(super) sort: Sort,
    /// From 1.
    pub(super) page: usize,
    /// From 1.
    pub(super) per_page: usize,
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    pub(super) total: usize,
    pub(super) page: usize,
    pub(super) pages: usize,
    pub(super) per_page: usize,
    pub(super) products: Vec<&'a Product>,
}

/// All products, and when any of them last changed.
#[derive(Debug)]
pub(super) struct Catalogue {
    products: Vec<Product>,
    /// The latest change of any product, in seconds since the Unix epoch.
    pub(super) modified: u64,
}

impl Catalogue {
    /// The catalogue as it is printed: the same in every process.
    pub(super) fn printed() -> Self {
        let products: Vec<_> = (1..=PRODUCTS).map(printed).collect();
        let modified = products.iter().map(|product| product.modified).max().unwrap_or(FIRST_CHANGE);
        Self { products, modified }
    }

    /// The product with this id.
    pub(super) fn product(&self, id: u32) -> Option<&Product> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        self.products.get(index)
    }

    /// The page that the filter selects; a page past the end is empty.
    pub(super) fn list(&self, filter: &Filter) -> Page<'_> {
        let mut found: Vec<&Product> = self
            .products
            .iter()
            .filter(|product| filter.category.is_none_or(|category| category == product.category))
            .filter(|product| (filter.min_cents..=filter.max_cents).contains(&product.cents))
            .collect();
        // Stable, and the ids ascend: equal names and prices stay in the order of their ids.
        match filter.sort {
            Sort::Id => {}
            Sort::PriceUp => found.sort_by_key(|product| product.cents),
            Sort::PriceDown => found.sort_by_key(|product| std::cmp::Reverse(product.cents)),
            Sort::NameUp => found.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::NameDown => found.sort_by(|a, b| b.name.cmp(&a.name)),
        }
        let total = found.len();
        let per_page = filter.per_page.max(1);
        let skipped = filter.page.saturating_sub(1).saturating_mul(per_page);
        Page {
            total,
            page: filter.page,
            pages: total.div_ceil(per_page),
            per_page,
            products: found.into_iter().skip(skipped).take(per_page).collect(),
        }
    }

    /// The first products whose name, category or material contains `words`, in any case.
    pub(super) fn search(&self, words: &str) -> Vec<&Product> {
        let words = words.to_lowercase();
        self.products
            .iter()
            .filter(|product| {
                product.name.to_lowercase().contains(&words)
                    || product.category.contains(&words)
                    || product.material.contains(&words)
            })
            .take(SEARCH_LIMIT)
            .collect()
    }

    /// Gives a product a new price at `now` (seconds since the Unix epoch). `None`: no such product.
    pub(super) fn change_price(&mut self, id: u32, cents: u64, now: u64) -> Option<&Product> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        let product = self.products.get_mut(index)?;
        product.cents = cents.min(MAX_CENTS);
        product.revision = product.revision.saturating_add(1);
        product.modified = product.modified.max(now);
        self.modified = self.modified.max(product.modified);
        Some(product)
    }
}

/// Spreads ids over all numbers, so that prices and stocks look unplanned and are not (splitmix64).
pub(super) const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sum of money as people write it: digits, and at most two decimals. `None`: it is not one.
pub(super) fn cents(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, longest: usize| {
        !part.is_empty() && part.len() <= longest && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 9) || !digits(decimals, 2) {
        return None;
    }
    let tenths = if decimals.len() == 1 { 10 } else { 1 };
    let cents = whole.parse::<u64>().ok()? * 100 + decimals.parse::<u64>().ok()? * tenths;
    (cents <= MAX_CENTS).then_some(cents)
}

/// Product `id` as it is printed. Adjective and noun together occur once in a category.
fn printed(id: u32) -> Product {
    let index = id as usize - 1;
    let category = &CATEGORIES[index % CATEGORIES.len()];
    let place = index / CATEGORIES.len();
    let chance = mix(u64::from(id));
    let material = category.materials[(chance % 4) as usize];
    let noun = category.nouns[place % category.nouns.len()];
    let adjective = ADJECTIVES[place / category.nouns.len() % ADJECTIVES.len()];
    Product {
        id,
        name: format!("{adjective} {material} {noun}"),
        category: category.slug,
        material,
        // From 4.50 to 199.50, in steps of half a unit.
        cents: 450 + (chance >> 8) % 391 * 50,
        stock: ((chance >> 32) % 140) as u32,
        revision: 1,
        modified: FIRST_CHANGE + u64::from(id) * 977,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> Filter {
        Filter { category: None, min_cents: 0, max_cents: MAX_CENTS, sort: Sort::Id, page: 1, per_page: 100 }
    }

    #[test]
    fn the_catalogue_is_the_same_every_time_and_no_product_occurs_twice() {
        let catalogue = Catalogue::printed();
        assert_eq!(catalogue.products, Catalogue::printed().products);
        let names: BTreeSet<_> = catalogue.products.iter().map(|product| &product.name).collect();
        assert_eq!(names.len(), PRODUCTS as usize);
        for category in categories() {
            let page = catalogue.list(&Filter { category: Some(category), ..all() });
            assert_eq!((page.total, page.products.len()), (60, 60), "{category}");
        }
        assert!(catalogue.product(0).is_none());
        assert_eq!(catalogue.product(PRODUCTS).map(|product| product.id), Some(PRODUCTS));
        assert!(catalogue.product(PRODUCTS + 1).is_none());
    }

    #[test]
    fn lists_filter_sort_and_page() {
        let catalogue = Catalogue::printed();
        let dear = catalogue.list(&Filter { min_cents: 15_000, sort: Sort::PriceDown, ..all() });
        assert!(!dear.products.is_empty());
        assert!(dear.products.iter().all(|product| product.cents >= 15_000));
        assert!(dear.products.windows(2).all(|pair| pair[0].cents >= pair[1].cents));
        let by_name = catalogue.list(&Filter { sort: Sort::NameUp, ..all() });
        assert!(by_name.products.windows(2).all(|pair| pair[0].name <= pair[1].name));

        let mut seen = BTreeSet::new();
        for page in 1..=7 {
            let page = catalogue.list(&Filter { page, per_page: 70, ..all() });
            assert_eq!(page.pages, 7);
            seen.extend(page.products.iter().map(|product| product.id));
        }
        assert_eq!(seen.len(), PRODUCTS as usize, "the pages together are the list");
        assert!(catalogue.list(&Filter { page: usize::MAX, ..all() }).products.is_empty());
    }

    #[test]
    fn a_search_is_bounded_and_reads_any_case() {
        let catalogue = Catalogue::printed();
        let found = catalogue.search("TEAPOT");
        assert_eq!(found.len(), ADJECTIVES.len());
        assert!(found.iter().all(|product| product.name.ends_with("teapot")));
        assert_eq!(catalogue.search("a").len(), SEARCH_LIMIT);
        assert!(catalogue.search("no such thing").is_empty());
    }

    #[test]
    fn a_price_change_counts_a_revision_and_dates_the_catalogue() {
        let mut catalogue = Catalogue::printed();
        let before = catalogue.modified;
        let changed = catalogue.change_price(7, 1_234, before + 60).cloned();
        assert_eq!(changed.as_ref().map(|product| (product.cents, product.revision)), Some((1_234, 2)));
        assert_eq!(catalogue.modified, before + 60);
        assert_eq!(catalogue.product(7).cloned(), changed);
        assert!(catalogue.change_price(0, 1, 0).is_none());
        assert!(catalogue.change_price(PRODUCTS + 1, 1, 0).is_none());
    }

    #[test]
    fn sums_of_money() {
        for (text, expected) in [
            ("0", Some(0)),
            ("19.99", Some(1_999)),
            ("19.9", Some(1_990)),
            ("20.0", Some(2_000)),
            ("1000000", Some(MAX_CENTS)),
            ("1000000.01", None),
            ("", None),
            (".5", None),
            ("5.", None),
            ("-5", None),
            ("+5", None),
            ("1e3", None),
            ("19.999", None),
            ("99999999999999999999", None),
            ("NaN", None),
        ] {
            assert_eq!(cents(text), expected, "{text}");
        }
    }
}
