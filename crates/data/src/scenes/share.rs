//! Training scenes shared out to several sites, each of which never sees a third of the objects.

use super::Scene;

/// The objects fall into so many groups, by their place in the list of concepts; a site lacks one of the groups.
const GROUPS: usize = 3;

/// Which scenes each of `sites` has: site `i` none with an object of group `i` modulo 3, no two the same scene, and of those who
/// could have a scene the one with the fewest so far gets it. A scene with objects of every group is nobody's.
pub(super) fn share<'a>(
    scenes: impl IntoIterator<Item = &'a Scene>,
    sites: usize,
) -> Vec<Vec<usize>> {
    let mut shares = vec![Vec::new(); sites];
    for (number, scene) in scenes.into_iter().enumerate() {
        let shown = scene.objects.iter().map(|o| o.concept.index % GROUPS);
        let missing: Vec<bool> = (0..GROUPS)
            .map(|group| shown.clone().all(|other| other != group))
            .collect();
        let places = shares.iter_mut().enumerate();
        let could = places.filter(|(place, _)| missing[place % GROUPS]);
        if let Some((_, fewest)) = could.min_by_key(|(_, share)| share.len()) {
            fewest.push(number);
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::Styles;

    #[test]
    fn each_site_lacks_a_third_of_the_objects_and_shares_no_scene() {
        let scenes: Vec<Scene> = (0..500)
            .map(|i| Scene::generate(7, i, Styles::Both))
            .collect();
        let shares = share(&scenes, 4);
        let mut owners = vec![0; scenes.len()];
        for (place, share) in shares.iter().enumerate() {
            assert!(share.len() > 80, "{}", share.len());
            let mut seen = [0; GROUPS];
            for &number in share {
                owners[number] += 1;
                for object in &scenes[number].objects {
                    seen[object.concept.index % GROUPS] += 1;
                }
            }
            assert!(
                (0..GROUPS).all(|group| (seen[group] == 0) == (group == place % GROUPS)),
                "{seen:?}"
            );
        }
        assert!(owners.iter().all(|owners| *owners < 2));
        // Nobody's are only those that show all three groups.
        for (number, _) in owners
            .iter()
            .enumerate()
            .filter(|(_, owners)| **owners == 0)
        {
            assert!(scenes[number].objects.len() > 2);
        }
    }
}
